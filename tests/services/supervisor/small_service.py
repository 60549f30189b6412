"""A small real service: ``python small_service.py KIND PORT``. Standard library only, so that it starts at once."""

from __future__ import annotations

import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        ready = str(self.status == 200).lower()
        self.wfile.write(b'{"service": "small", "ready": %s, "reason": "still warming up"}' % ready.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve(kind: str, port: int) -> None:
    """Kinds: good, stubborn (ignores SIGTERM), cold (never ready), dead (ends at once), family (starts a session)."""
    print(f"{kind} speaks", flush=True)
    if kind == "dead":
        sys.exit("no model there")
    if kind == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if kind == "family":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    Handler.status = 503 if kind == "cold" else 200
    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
