"""The service's end of the line to the process that runs its model."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from services.student.engines.base import Watcher
from services.student.engines.process.wire import LENGTHS, Json, frame, read_error, read_piece
from shared.errors import Unavailable
from shared.processes.child import Child
from shared.processes.output import pass_on
from shared.serving.work import StreamPiece

log = logging.getLogger(__name__)
RETRY_AFTER = 2.0
CLOSE_SECONDS = 30.0
END_SECONDS = 2.0
QUEUED = ("answer", "score")


@dataclass
class Call:
    """A request to the process. ``waits``: its batch has not begun."""

    done: asyncio.Future[Json]
    on_piece: Callable[[StreamPiece], None] | None
    waits: bool


class ModelChild:
    """One process, from its start to its end. Then every call raises Unavailable, including those in flight."""

    def __init__(self, watcher: Watcher, on_serving: Callable[[str, str, int], None]) -> None:
        """``on_serving`` gets version, processor digest and longest sequence of the checkpoint that serves."""
        self._watcher, self._on_serving = watcher, on_serving
        self._numbers = itertools.count()
        self._calls: dict[int, Call] = {}
        self._sending = asyncio.Lock()
        self.ended = asyncio.Event()
        self.waiting = 0
        """Requests that no batch has taken yet."""
        self._process: Child
        self._writer: asyncio.StreamWriter
        self._reading: asyncio.Task[None]

    async def spawn(self) -> None:
        """Start the process."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "services.student.engines.process", str(theirs.fileno())]
            self._process = Child(command, os.environ, pass_on, pass_fds=[theirs.fileno()])
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._reading = asyncio.create_task(self._read(reader))

    @property
    def pid(self) -> int:
        return self._process.pid

    async def call(
        self, head: Json, payload: bytes = b"", on_piece: Callable[[StreamPiece], None] | None = None
    ) -> Json:
        """The reply. Raises the error that the process reports, Unavailable if it ends. Cancelling ends the work."""
        number, call = self._begin(head, on_piece)
        try:
            await self._send({**head, "id": number}, payload)
            return await call.done
        except asyncio.CancelledError:
            self.cancel(number)
            raise
        finally:
            self._forget(number)

    async def call_whole(self, head: Json, patience: float) -> Json:
        """Like ``call``, but a cancelled caller still waits for the outcome, ``patience`` seconds at most."""
        number, call = self._begin(head, None)
        try:
            await self._send({**head, "id": number})
            return await asyncio.shield(call.done)
        except asyncio.CancelledError:
            self.cancel(number)
            with suppress(Exception):
                async with asyncio.timeout(patience):
                    await call.done
            raise
        finally:
            self._forget(number)

    def cancel(self, number: int) -> None:
        if not self.ended.is_set():  # not awaited: the frame is tiny, and a call sends at most one
            self._writer.write(frame({"do": "cancel", "id": number}))

    async def close(self) -> None:
        """Let the running batch end. Calls that wait get Unavailable."""
        if not self.ended.is_set():
            self._writer.write(frame({"do": "close"}))
        await self._gone(CLOSE_SECONDS)

    async def kill(self) -> None:
        await self._gone(0.0)

    async def how_it_ended(self) -> str:
        """In words: "exited with code 1". The process is gone after this."""
        await self._gone(END_SECONDS)
        return self._process.ending

    def last_lines(self) -> list[str]:
        """The end of its output."""
        return self._process.last_lines()

    async def _gone(self, seconds: float) -> None:
        """Wait for its end, and kill it after ``seconds``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.wait()
        await self._process.stop(0.0)
        await self._reading

    def _begin(self, head: Json, on_piece: Callable[[StreamPiece], None] | None) -> tuple[int, Call]:
        if self.ended.is_set():
            raise _ended()
        done: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        number, call = next(self._numbers), Call(done, on_piece, waits=head["do"] in QUEUED)
        self._calls[number] = call
        self.waiting += call.waits
        return number, call

    async def _send(self, head: Json, payload: bytes = b"") -> None:
        """Write a frame once the previous one has left. While the process reads slowly, calls wait here."""
        async with self._sending:
            if not self.ended.is_set():
                self._writer.write(frame(head, payload))
                with suppress(ConnectionError):  # it has ended: the reading side tells the call
                    await self._writer.drain()

    def _forget(self, number: int) -> None:
        call = self._calls.pop(number, None)
        if call is not None:
            self._waits_no_more(call)

    def _waits_no_more(self, call: Call) -> None:
        if call.waits:
            call.waits = False
            self.waiting -= 1

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                text, payload = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
                self._take(json.loads(await reader.readexactly(text)))
                await reader.readexactly(payload)
        except (asyncio.IncompleteReadError, OSError):
            pass
        except Exception:
            log.exception("A frame of the model's process cannot be read")
        finally:
            self.ended.set()
            self._writer.close()
            for call in self._calls.values():
                if not call.done.done():
                    call.done.set_exception(_ended())
                    call.done.exception()  # its caller may be gone

    def _take(self, head: Json) -> None:
        if "batch" in head:
            self._watcher.batch(head["batch"], head["waits"])
            for number in head["began"]:
                if number in self._calls:
                    self._waits_no_more(self._calls[number])
            return
        if "images" in head:
            self._watcher.images(*head["images"])
            return
        if "serving" in head:
            self._on_serving(*head["serving"])
        call = self._calls.get(head["id"])
        if call is None or call.done.done():
            return
        if "piece" in head:
            if call.on_piece is not None:
                call.on_piece(read_piece(head["piece"]))
        elif "error" in head:
            call.done.set_exception(read_error(head["error"]))
        else:
            call.done.set_result(head)


def _ended() -> Unavailable:
    return Unavailable("The model's process has ended and is being restarted: ask again.", retry_after=RETRY_AFTER)
