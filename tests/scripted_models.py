"""Scripted OpenAI-compatible servers over real HTTP, for tests that decide what the models answer."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

Body = dict[str, Any]
Text = str | Body
"""What a choice says, or the fields of its message, with ``finish_reason`` among them."""
Script = Callable[[Body], Sequence[Text]]
Refusal = Callable[[Body], str | None]


def text_of(body: Body) -> str:
    """The text part of the last message."""
    return str(body["messages"][-1]["content"][1]["text"])


def image_of(body: Body) -> str:
    """A short name for the image that was sent."""
    url = body["messages"][-1]["content"][0]["image_url"]["url"]
    return hashlib.sha256(url.encode()).hexdigest()[:8]


@dataclass
class ScriptedModel:
    """Answers by ``script`` (one text a choice). ``failures``: (status, headers) given first; ``delay`` in seconds.

    ``refusal``: the words of a 400 for a body, ``failure``: another status; None to answer it.
    """

    script: Script
    version: str = "base"
    delay: float = 0.0
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    refusal: Refusal | None = None
    failure: Callable[[Body], int | None] | None = None
    looks: dict[str, list[list[float]]] | None = None
    """Attention maps by answer; None: the probe is off."""
    scores: Callable[[str, str], float] | None = None
    """Mean log-probability of (question, answer); None: the service has no scores."""
    logprobs: bool = True
    text_script: Script = field(default=lambda _: ["yes"])
    """What it says where it is asked without an image."""
    beside: set[str] = field(default_factory=set)
    """Versions that are served beside, to those who ask for ``name@version``."""
    canaries: list[Body] = field(default_factory=list)
    """What was asked of the rollout; each is served from then on."""
    loading: float = 0.0
    """Seconds that a candidate takes to load."""
    occupied: str = ""
    """Why no candidate is taken at present, in words."""
    room: str | None = None
    """What the health says about candidates; None: nothing."""
    requests: list[Body] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> JSONResponse:
            body: Body = await request.json()
            self.requests.append(body)
            if self.failures:
                status, headers = self.failures.pop(0)
                return JSONResponse({"error": {"message": "scripted failure"}}, status, headers=headers)
            failure = self.failure(body) if self.failure is not None else None
            if failure is not None:
                return JSONResponse({"error": {"message": "scripted failure"}}, failure)
            version = str(body.get("model", "")).partition("@")[2] or self.version
            if version not in {self.version, *self.beside}:
                return JSONResponse({"error": {"message": f"Version {version} is not being served."}}, 404)
            refusal = self.refusal(body) if self.refusal is not None else None
            if refusal is not None:
                return JSONResponse({"error": {"message": refusal}}, 400)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                await asyncio.sleep(self.delay)
            finally:
                self.in_flight -= 1
            without_image = isinstance(body["messages"][-1]["content"], str)
            texts = self.text_script(body) if without_image else self.script(body)
            made = completion(texts, top=body.get("top_logprobs") or 0, logprobs=self.logprobs)
            return JSONResponse(made, headers={"X-MPA-Checkpoint": version})

        @app.get("/readyz")
        async def ready() -> Body:
            details = {"attention": self.looks is not None}
            told = details if self.room is None else {**details, "candidates": self.room}
            return {"service": "scripted", "ready": True, "details": told}

        @app.get("/v1/checkpoints")
        async def checkpoints() -> Body:
            return {"student": "student", "active": self.version, "checkpoints": []}

        @app.put("/v1/rollout/canary")
        async def canary(request: Request) -> JSONResponse:
            body: Body = await request.json()
            if self.occupied:
                return JSONResponse({"detail": self.occupied}, 409)
            await asyncio.sleep(self.loading if body["version"] not in self.beside else 0.0)
            self.canaries.append(body)
            self.beside.add(body["version"])
            return JSONResponse(canary_report(body, self.version))

        @app.post("/v1/score")
        async def score(request: Request) -> JSONResponse:
            if self.scores is None:
                return JSONResponse({"detail": "Not Found"}, 404)
            asked = await request.json()
            items = asked["items"]
            values = [
                [_score(answer, self.scores(item["question"], answer)) for answer in item["answers"]] for item in items
            ]
            return JSONResponse(
                {"checkpoint": asked.get("model", "").partition("@")[2] or self.version, "scores": values}
            )

        @app.post("/v1/attention")
        async def attention(request: Request) -> JSONResponse:
            if self.looks is None:
                return JSONResponse({"detail": "The attention probe is off here."}, 403)
            asked = await request.json()
            (item,) = asked["items"]
            maps = [{"values": self.looks.get(item["answer"], [[0.25] * 2] * 2), "image_share": 0.5}]
            return JSONResponse(
                {"version": asked.get("model", "").partition("@")[2] or self.version, "layers": [1], "maps": maps}
            )

        return app


def _score(answer: str, mean: float) -> Body:
    return {"answer": answer, "logprob": mean, "mean_logprob": mean, "tokens": [answer], "token_logprobs": [mean]}


def canary_report(request: Body, baseline: str) -> Body:
    """What the student's rollout answers to a request for a candidate."""
    now = "2026-01-01T00:00:00Z"
    canary = {
        **{name: request[name] for name in ("version", "share", "compare", "rule")},
        **{"id": "canary-0", "revision": 0, "student": "student", "baseline": baseline, "state": "running"},
        **{"started_by": request["by"], "started_at": now, "changed_by": request["by"], "changed_at": now},
    }
    return {"canary": canary, "active": {"version": baseline}, "candidate": {"version": request["version"]}}


def completion(texts: Sequence[Text], *, top: int = 0, logprobs: bool = True) -> Body:
    """A chat completion with a token a word, each with the log-probability -0.5 and ``top`` alternatives."""
    choices, words = [], 0
    for index, said in enumerate(texts):
        given = said if isinstance(said, dict) else {"content": said}
        text = str(given.get("content") or "")
        words += len(text.split())
        tokens = []
        for word in text.split():
            others = [{"token": f"other-{n}", "logprob": -2.0 - n} for n in range(top - 1)]
            tops = [*others, {"token": word, "logprob": -0.5}] if top else []
            tokens.append({"token": word, "logprob": -0.5, "top_logprobs": tops})
        message = {"role": "assistant", **{key: given[key] for key in given if key != "finish_reason"}}
        finish = given.get("finish_reason", "stop")
        told = {"content": tokens} if logprobs else None
        choices.append({"index": index, "message": message, "logprobs": told, "finish_reason": finish})
    return {
        "id": "x",
        "object": "chat.completion",
        "model": "scripted",
        "choices": choices,
        "usage": {"prompt_tokens": 10, "completion_tokens": words, "total_tokens": 10 + words},
    }


def draw(*parts: object, below: int) -> int:
    """A number below ``below`` that depends on nothing but the parts."""
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16) % below


def wise_teacher(body: Body) -> list[str]:
    """Asks one of nine questions about the image, knows a two-digit answer to each, and rarely changes its mind."""
    image, text, n = image_of(body), text_of(body), body.get("n", 1)
    if text.startswith("ask"):
        return [f"what is number {draw(image, body['seed'], i, below=9)}?" for i in range(n)]
    truth = str(10 + draw(image, text, below=50))
    if body["temperature"] == 0:
        return [truth]
    return ["99" if draw(image, text, body["seed"], i, below=10) == 0 else truth for i in range(n)]


def weak_student(body: Body) -> list[str]:
    """Right two times in three."""
    image, text = image_of(body), text_of(body)
    right = draw("student", image, text, below=3) > 0
    return [str(10 + draw(image, text, below=50)) if right else "5000"]


def strong_student(body: Body) -> list[str]:
    """Always right."""
    return [str(10 + draw(image_of(body), text_of(body), below=50))]
