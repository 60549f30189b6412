"""A small HTTP server in vLLM's place: what it does with a chat stands in a file, which a test may change at any time.

Called like vLLM's server (``… --port=N``). ``SMALL_FOLDER`` holds ``mode`` (read at every chat) and ``journal``.
Modes: ok, fail (500), refuse (400), hang, slow, die, and die_in_stream. ``/health`` is fine in all of them.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["SMALL_FOLDER"])
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "red"}, "logprobs": {"content": []}}]}
METRICS = b"""# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 7.0
# HELP vllm:prefix_cache_hits_total Prefix cache hits, in terms of number of cached tokens.
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{engine="0",model_name="teacher"} 192.0
"""
PIECES = [b'data: {"choices": [{"delta": {"content": "re"}}]}\n\n', b'data: {"choices": []}\n\n', b"data: [DONE]\n\n"]


def mode() -> str:
    return (FOLDER / "mode").read_text().strip()


def note(words: str) -> None:
    with (FOLDER / "journal").open("a") as file:
        file.write(words + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self.send(200, METRICS, "text/plain")
        else:
            self.reply(200, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        note(f"body {body.decode()}")
        now = mode()
        if now == "fail":
            self.reply(500, {"error": {"message": "the engine is upset"}})
        elif now == "refuse":
            self.reply(400, {"detail": "too many tokens"})
        elif now == "die":
            os._exit(3)
        elif now in ("hang", "slow"):
            self.wait_until_left(60 if now == "hang" else 1.0)
        elif json.loads(body).get("stream"):
            self.stream(now)
        else:
            self.reply(200, ANSWER)

    def wait_until_left(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            readable, _, _ = select.select([self.connection], [], [], 0.02)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                note("hung up")
                return
        self.reply(200, ANSWER)

    def stream(self, now: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in PIECES:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
            if now == "die_in_stream":
                os._exit(3)
        self.wfile.write(b"0\r\n\r\n")

    def reply(self, status: int, content: dict[str, Any]) -> None:
        self.send(status, json.dumps(content).encode(), "application/json")

    def send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    if mode() == "end":
        sys.exit("cannot load the model")
    helper = subprocess.Popen(["sleep", "600"])  # vLLM has an engine process too: it must not be left behind
    note(f"helper {helper.pid}")
    print("WARNING small server speaks", flush=True)
    port = next(a for a in sys.argv if a.startswith("--port=")).removeprefix("--port=")
    Server(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
