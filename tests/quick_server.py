"""An ASGI app on a real port, in a thread or on the test's own loop, that starts and stops without uvicorn's delays."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

NAP = 0.005
GRACE = 2.0
TICK = 0.5


class QuickServer(uvicorn.Server):
    """uvicorn looks for its end, and for that of its connections, every 0.1 s at most: the tests start hundreds."""

    async def main_loop(self) -> None:
        next_tick = 0.0
        while not self.should_exit:
            if time.monotonic() >= next_tick:
                await self.on_tick(0)  # writes the Date header of the answers
                next_tick = time.monotonic() + TICK
            await asyncio.sleep(2 * NAP)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's: no new connections, those there finish what they do, then the lifespan ends."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        deadline = time.monotonic() + GRACE
        while (self.server_state.connections or self.server_state.tasks) and time.monotonic() < deadline:
            await asyncio.sleep(NAP)
        for task in self.server_state.tasks:
            task.cancel()
        await self.lifespan.shutdown()

    @property
    def port(self) -> int:
        found: int = self.servers[0].sockets[0].getsockname()[1]
        return found


class ServerThread:
    """An ASGI app on a real port (the one given, or one the system picks) until ``stop``."""

    def __init__(self, app: FastAPI, port: int = 0) -> None:
        self._server = _server(app, port)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            assert time.monotonic() < deadline, "the server did not start in time"
            time.sleep(NAP)
        self.port = self._server.port
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.leave()
        self._thread.join(10)

    def leave(self) -> None:
        """Stop without waiting, if nothing depends on the moment."""
        self._server.should_exit = True


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """The app's URL, on the test's own loop, until the block ends."""
    server = _server(app)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the service ended while it started"
        await asyncio.sleep(NAP)
    yield f"http://127.0.0.1:{server.port}"
    server.should_exit = True
    await task


def _server(app: FastAPI, port: int = 0) -> QuickServer:
    return QuickServer(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
