"""A worker's adaptive limit of calls against fixed ones, on a server that refuses calls over its capacity.

    python -m benchmarks.serving.adaptive_calls

The server is a real one over HTTP: it serves ``--capacity`` calls at once, ``--seconds`` each, and answers 429 to more.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import threading
import time
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from benchmarks.serving.report import report
from services.parity.endpoints.endpoint import Endpoint
from services.parity.endpoints.limiter import Limiter
from shared.client import ChatClient
from shared.contracts import ChatMessage, ChatRequest
from shared.processes.ports import free_port

REQUEST = ChatRequest(model="m", messages=[ChatMessage(role="user", content="what?")], max_tokens=4)
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "this"}}]}


@dataclass
class SmallServer:
    """Counts what it serves and refuses."""

    capacity: int
    seconds: float
    busy: int = 0
    most: int = 0
    refused: int = 0

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat() -> JSONResponse:
            self.busy += 1
            self.most = max(self.most, self.busy)
            try:
                if self.busy > self.capacity:
                    self.refused += 1
                    return JSONResponse({"error": {"message": "too many"}}, 429)
                await asyncio.sleep(self.seconds)
                return JSONResponse(ANSWER)
            finally:
                self.busy -= 1

        return app


class Fixed(Limiter):
    """A fixed limit."""

    def __init__(self, most: int) -> None:
        super().__init__("teacher", most)
        self.limit = float(most)

    def _answered(self, number: int, seconds: float) -> None:
        return

    def _overloaded(self, number: int, pause: float | None) -> None:
        return


def measure(name: str, limiter: Limiter, options: argparse.Namespace) -> dict[str, object]:
    small = SmallServer(options.capacity, options.seconds)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(small.app(), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        seconds = asyncio.run(_ask(f"http://127.0.0.1:{port}", limiter, options.calls))
    finally:
        server.should_exit = True
        thread.join()
    ideal = options.calls * options.seconds / options.capacity
    row: dict[str, object] = {"limit": name, "refused": small.refused, "most at once": small.most, "seconds": seconds}
    return {**row, "of the ideal": ideal / seconds}


async def _ask(url: str, limiter: Limiter, calls: int) -> float:
    async with ChatClient(url, model="m", timeout=60) as client:
        upstream = Endpoint("teacher", client, limiter, asyncio.Event())
        began = time.perf_counter()
        await asyncio.gather(*(upstream.chat(REQUEST) for _ in range(calls)))
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument("--calls", type=int, default=400)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # each refusal would be logged
    limiters = {"adaptive, at most 32": Limiter("teacher", 32), "fixed 32": Fixed(32), "fixed 2": Fixed(2)}
    rows = [measure(name, limiter, options) for name, limiter in limiters.items()]
    report("adaptive_calls", rows, "neither flooded nor idle: few refused, little slower than the ideal")


if __name__ == "__main__":
    main()
