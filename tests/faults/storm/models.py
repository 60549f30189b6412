"""``python -m tests.faults.storm.models PORT``: a teacher and a student that misbehave when they are told to.

Their answers depend on the request alone. ``POST /misbehave {"how": …, "seconds": …}`` begins a bad time.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tests.scripted_models import ScriptedModel, weak_student, wise_teacher

SECONDS_PER_CALL = 0.25
BAD_REPLIES: dict[str, tuple[int, bytes, str, dict[str, str]]] = {
    "500": (500, b'{"error": {"message": "CUDA error: device-side assert triggered"}}', "application/json", {}),
    "502 page": (502, b"<html><h1>502 Bad Gateway</h1></html>", "text/html", {}),
    "429": (429, b'{"error": {"message": "slow down"}}', "application/json", {"Retry-After": "1"}),
    "400 for all": (400, b'{"error": {"message": "upstream not available"}}', "application/json", {}),
    "401": (401, b'{"error": {"message": "invalid API key"}}', "application/json", {}),
    "404": (404, b'{"error": {"message": "model not found"}}', "application/json", {}),
    "200 page": (200, b"<html>Welcome to the gateway</html>", "text/html", {}),
    "half JSON": (200, b'{"id": "x", "choices": [{"index": 0, "mess', "application/json", {}),
    "no choices": (200, b'{"id": "x", "object": "chat.completion", "choices": []}', "application/json", {}),
    "empty body": (200, b"", "application/json", {}),
}
HANG = "hang"


def make_app() -> FastAPI:
    app = FastAPI()
    until, how = 0.0, ""

    @app.post("/misbehave")
    async def misbehave(request: Request) -> dict[str, bool]:
        nonlocal until, how
        asked: dict[str, Any] = await request.json()
        until, how = time.monotonic() + float(asked["seconds"]), str(asked["how"])
        return {"ok": True}

    @app.middleware("http")
    async def bad_minute(request: Request, call_next: Any) -> Response:
        if request.url.path != "/misbehave" and time.monotonic() < until:
            if how != HANG:
                status, body, kind, headers = BAD_REPLIES[how]
                return Response(body, status, headers, kind)
            await asyncio.sleep(until - time.monotonic())
        answer: Response = await call_next(request)
        return answer

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"ok": True})

    app.mount("/teacher", ScriptedModel(wise_teacher, delay=SECONDS_PER_CALL).app())
    app.mount("/student", ScriptedModel(weak_student, delay=SECONDS_PER_CALL).app())
    return app


if __name__ == "__main__":
    uvicorn.run(make_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
