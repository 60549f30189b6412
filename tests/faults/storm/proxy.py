"""A TCP proxy whose network fails on demand: connections that break, and connections that fall silent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

CHUNK = 64 * 1024
CALL_SECONDS = 10.0


class Proxy:
    """Forwards a port on 127.0.0.1 to another one. Its methods may be called from any thread."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._connections: set[asyncio.StreamWriter] = set()
        self._broken = False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True).start()
        self.port: int = self._do(self._start())

    def cut(self) -> None:
        """Reset all connections and refuse new ones until ``mend``."""
        self._do(self._cut())

    def silence(self) -> None:
        """Keep connections open and accept new ones, but forward nothing until ``mend``."""
        self._do(self._set_flowing(False))

    def mend(self) -> None:
        """Forward again. What arrived in silence is forwarded now, as after a lost and repeated packet."""
        self._do(self._set_flowing(True))

    def stop(self) -> None:
        self._do(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)

    async def _start(self) -> int:
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _cut(self) -> None:
        self._broken = True
        for writer in list(self._connections):
            writer.transport.abort()

    async def _set_flowing(self, flowing: bool) -> None:
        if flowing:
            self._broken = False
            self._flowing.set()
        else:
            self._flowing.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._broken:
            writer.transport.abort()
            return
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._connections |= {writer, onward}
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, onward))
                both.create_task(self._pump(there, writer))
        finally:
            self._connections -= {writer, onward}
            writer.transport.abort()
            onward.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.write_eof()
