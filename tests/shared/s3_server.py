"""moto's S3, IAM and STS as a server of its own: ``python -m ... <port>``.

moto handles one request at a time, because it looks for an object and writes it in two steps: with threads,
``If-None-Match`` would let several creators win, which S3 does not. Three switches, by POST:

``/listings/freeze`` and ``/listings/thaw``: in between, listings show what they showed at the freeze, while reads by
key see everything, as stores with eventual listings do.

``/faults``: a JSON list of faults; each spoils, in order, the next request with its method and end of the path. GET it
for those that are left. A fault that ``hold``s delays the right answer until ``/release``; other requests are served
meanwhile.
"""

from __future__ import annotations

import copy
import io
import json
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from moto import settings
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import run_simple

Start = Callable[..., Any]
HOLD_SECONDS = 60.0


class Server:
    """The WSGI application around moto's."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._frozen: dict[str, Any] | None = None
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
        if path.startswith("/listings/"):
            self._frozen = _keys() if path.endswith("freeze") else None
            start("204 No Content", [])
            return []
        if self._frozen is None or not _is_listing(environ):
            return self._moto(environ, start)
        return self._stale(self._frozen, environ, start)

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

    def _stale(self, frozen: dict[str, Any], environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        now = _buckets()
        kept = {name: bucket.keys for name, bucket in now.items()}
        try:
            for name, bucket in now.items():
                bucket.keys = frozen.get(name, type(bucket.keys)())
            return list(self._moto(environ, start))
        finally:
            for name, bucket in now.items():
                bucket.keys = kept[name]


def _buckets() -> dict[str, Any]:
    return s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets


def _keys() -> dict[str, Any]:
    return {name: copy.copy(bucket.keys) for name, bucket in _buckets().items()}


def _concerns(fault: dict[str, Any], environ: dict[str, Any]) -> bool:
    return bool(fault["method"] == environ["REQUEST_METHOD"] and environ["PATH_INFO"].endswith(fault["path"]))


def _is_listing(environ: dict[str, Any]) -> bool:
    asked = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    return environ["REQUEST_METHOD"] == "GET" and bool({"list-type", "prefix", "delimiter"} & asked.keys())


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), Server(), threaded=True, request_handler=MotoRequestHandler)
