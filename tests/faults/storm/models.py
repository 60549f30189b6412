"""``python -m tests.faults.storm.models PORT SECONDS``: a teacher and a student that misbehave when they are told to.

Each call takes SECONDS. Their answers depend on the request alone. A bad time begins with
``POST /misbehave {"how": …, "seconds": …}``.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tests.scripted_models import Body, ScriptedModel, draw, image_of, text_of, weak_student, wise_teacher

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


LEARNABLE = "42"


def plain_teacher(body: Body) -> list[str]:
    """Asks as the wise teacher does, but the answer is always the same: a few steps teach it to a student."""
    if text_of(body).startswith("ask"):
        return wise_teacher(body)
    return [LEARNABLE for _ in range(body.get("n") or 1)]


def plain_student(body: Body) -> list[str]:
    """Right two times in three."""
    return [LEARNABLE if draw("student", image_of(body), text_of(body), below=3) > 0 else "5000"]


def score(question: str, answer: str) -> float:
    """A mean log-probability between -3 and 0."""
    return -draw("score", question, answer, below=300) / 100


def make_app(delay: float) -> FastAPI:
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

    scripts = {
        "teacher": wise_teacher,
        "student": weak_student,
        "plain-teacher": plain_teacher,
        "plain-student": plain_student,
    }
    for name, script in scripts.items():
        app.mount(f"/{name}", ScriptedModel(script, delay=delay, scores=score).app())
    return app


if __name__ == "__main__":
    uvicorn.run(make_app(float(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
