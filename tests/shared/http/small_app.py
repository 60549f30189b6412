"""An app from the factory with a few routes, and a client that calls it without a port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Literal

import httpx
from fastapi import FastAPI
from pydantic import Field

from shared.contracts import Contract, Health
from shared.errors import Busy, NotFound
from shared.http import create_app
from shared.settings import HttpSettings


class Cat(Contract):
    kind: Literal["cat"]
    lives: int


class Dog(Contract):
    kind: Literal["dog"]
    name: str


class Body(Contract):
    count: int
    names: str | list[str] = ""
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = Field(default_factory=list)


@asynccontextmanager
async def nothing(app: FastAPI) -> AsyncIterator[None]:
    yield


def make_app(settings: HttpSettings | None = None, *, ready: bool = True, openai_errors: bool = False) -> FastAPI:
    async def readiness(app: FastAPI) -> Health:
        return Health(service="test", ready=ready, reason="" if ready else "the model loads")

    app = create_app("test", settings or HttpSettings(), lifespan=nothing, ready=readiness, openai_errors=openai_errors)

    @app.get("/v1/busy")
    async def busy() -> None:
        raise Busy("The queue is full.", retry_after=2.2)

    @app.get("/v1/crash")
    async def crash() -> None:
        raise RuntimeError("a secret")

    @app.post("/v1/echo")
    async def echo(body: Body) -> Body:
        return body

    @app.put("/v1/echo")
    async def put(body: Body) -> Body:
        return body

    @app.get("/v1/models")
    async def models() -> None:
        raise NotFound("no such model")

    return app


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")
