"""An ASGI app on a real port: in a thread of its own, or beside a test on its event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from tests.polling import async_wait_until, wait_until


class _Server(uvicorn.Server):
    """Looks for its end more often than uvicorn does: the tests start hundreds."""

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:
            await asyncio.sleep(0.01)


class ServerThread:
    """An ASGI app on a real port (the one given, or one the system picks) until ``stop``."""

    def __init__(self, app: FastAPI, port: int = 0) -> None:
        config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=2)
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_until(self._started, timeout=30, every=0.005)
        self.port = port_of(self._server)
        self.url = f"http://127.0.0.1:{self.port}"

    def _started(self) -> bool:
        assert self._thread.is_alive(), "the server ended while it started"
        return self._server.started

    def stop(self) -> None:
        self.leave()
        self._thread.join(10)

    def leave(self) -> None:
        """Have it end by itself, where nothing depends on when."""
        self._server.should_exit = True


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """The app's URL, until the block ends and every request has its answer."""
    server = _Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    task = asyncio.create_task(server.serve())

    async def started() -> bool:
        assert not task.done(), "the server ended while it started"
        return server.started

    await async_wait_until(started, timeout=120)
    yield f"http://127.0.0.1:{port_of(server)}"
    server.should_exit = True
    await task


def port_of(server: uvicorn.Server) -> int:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port
