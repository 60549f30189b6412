"""moto's S3, IAM and STS as a server of its own: ``python -m ... <port>``.

moto handles one request at a time, because it looks for an object and writes it in two steps: with threads,
``If-None-Match`` would let several creators win, which S3 does not.

POST ``/faults`` takes a JSON list of faults. Each spoils, in order, the next request with its method and end of the
path; GET returns those that are left. A fault with ``hold`` delays the right answer until a POST to ``/release``, while
other requests are served.
"""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto import settings
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

Start = Callable[..., Any]
HOLD_SECONDS = 60.0


class Server:
    """The WSGI application around moto's."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._faults: list[dict[str, Any]] = []
        self._one_at_a_time = threading.Lock()
        self._released = threading.Event()

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/release":
            self._released.set()
            start("204 No Content", [])
            return []
        with self._one_at_a_time:
            fault = self._faults.pop(0) if self._faults and _concerns(self._faults[0], environ) else None
        if fault is not None and fault["hold"]:
            self._released.wait(HOLD_SECONDS)
        with self._one_at_a_time:
            return list(self._answer(environ, start, None if fault is None or fault["hold"] else fault))

    def _answer(self, environ: dict[str, Any], start: Start, fault: dict[str, Any] | None) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/faults":
            return self._exchange_faults(environ, start)
        if fault is not None:
            return self._spoilt(fault, environ, start)
        if path == "/" and environ["REQUEST_METHOD"] == "POST":
            return self._without_signature(environ, start)
        return self._moto(environ, start)

    def _exchange_faults(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            self._faults = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            self._released.clear()
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(self._faults).encode()]

    def _spoilt(self, fault: dict[str, Any], environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """An error (status, code) instead of the answer, or the answer cut off in its middle (status 0).

        With ``done``, what was asked for has happened all the same.
        """
        if not fault["status"]:
            body = b"".join(self._moto(environ, start))
            return [body[: len(body) // 2]]
        if fault["done"]:
            list(self._moto(environ, lambda *_: None))
        else:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start(f"{fault['status']} Fault", [("Content-Type", "application/xml")])
        return [f"<Error><Code>{fault['code']}</Code><Message>spoilt</Message></Error>".encode()]

    def _without_signature(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """AWS takes a web identity's token in place of a signature; moto, where it checks signatures, does not."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        checked_from = settings.INITIAL_NO_AUTH_ACTION_COUNT
        try:
            if b"Action=AssumeRoleWithWebIdentity" in body:
                settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
            return list(self._moto(environ, start))
        finally:
            settings.INITIAL_NO_AUTH_ACTION_COUNT = checked_from


def _concerns(fault: dict[str, Any], environ: dict[str, Any]) -> bool:
    return bool(fault["method"] == environ["REQUEST_METHOD"] and environ["PATH_INFO"].endswith(fault["path"]))


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), Server(), threaded=True, request_handler=MotoRequestHandler)
