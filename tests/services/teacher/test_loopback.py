"""The connections to vLLM against servers that answer in all ways HTTP/1.1 allows, and in some that it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from services.teacher.loopback import Loopback
from tests.polling import async_wait_until

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"


class Server:
    """Sends ``answer`` to each request; ``requests`` are the bodies, ``opened`` and ``closed`` count connections."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.opened = self.closed = self.port = 0
        self.then_close = False
        self.waits = asyncio.Event()
        self.waits.set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
                self.requests.append(await reader.readexactly(length))
                leaving = asyncio.create_task(reader.read(1))
                waiting = asyncio.create_task(self.waits.wait())
                await asyncio.wait((leaving, waiting), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if leaving.done():
                    return
                leaving.cancel()
                await asyncio.gather(leaving, return_exceptions=True)
                writer.write(self.answer)
                if self.then_close:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.closed += 1
            writer.close()


@asynccontextmanager
async def serving(answer: bytes = PLAIN) -> AsyncIterator[Server]:
    server = Server(answer)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


@pytest.fixture
async def loopback() -> AsyncIterator[Loopback]:
    made = Loopback(timeout=5.0)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("answer", "status", "content"),
    [
        (PLAIN, 200, b"abcd"),
        (b"HTTP/1.1 204 No Content\r\ncontent-length:0\r\n\r\n", 204, b""),
        (b"HTTP/1.1 400\r\nCONTENT-LENGTH: 2\r\nX: a: b\r\n\r\nno", 400, b"no"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n", 200, b"abcd"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\nX-T: 1\r\n\r\n", 200, b"a"),
    ],
)
async def test_answers_are_read_and_the_connection_is_kept(
    loopback: Loopback, answer: bytes, status: int, content: bytes
) -> None:
    async with serving(answer) as server:
        for body in (b'{"a": 1}', b"x" * 300_000, b""):
            assert await loopback.post(server.port, "/v1/chat/completions", body) == (status, content)
            assert server.requests[-1] == body
        assert server.opened == 1


async def test_as_many_connections_as_requests_at_once(loopback: Loopback) -> None:
    async with serving() as server:
        for _ in range(2):
            await asyncio.gather(*(loopback.post(server.port, "/", b"{}") for _ in range(20)))
        assert (len(server.requests), server.opened, server.closed) == (40, 20, 0)


@pytest.mark.parametrize("said", [True, False])
async def test_a_connection_that_the_server_closed_is_not_used_again(loopback: Loopback, said: bool) -> None:
    headers = b"Connection: close\r\n" if said else b""
    async with serving(PLAIN.replace(b"Content", headers + b"Content")) as server:
        server.then_close = True
        for count in range(1, 4):
            assert (await loopback.post(server.port, "/", b"{}"))[0] == 200
            await async_wait_until(lambda n=count: _is(server.closed == n))
            await async_wait_until(lambda: _is(not any(line.usable for line in loopback._idle)))
        assert server.opened == 3


async def test_a_server_that_came_back_on_another_port_gets_connections_of_its_own(loopback: Loopback) -> None:
    async with serving() as old:
        await loopback.post(old.port, "/", b"{}")
    async with serving() as new:
        assert (await loopback.post(new.port, "/", b"{}"))[0] == 200
        assert new.opened == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_an_error_and_not_used_again(loopback: Loopback, answer: bytes) -> None:
    async with serving(answer) as server:
        server.then_close = True
        with pytest.raises(httpx.RemoteProtocolError):
            await loopback.post(server.port, "/", b"{}")
        server.answer = PLAIN
        assert (await loopback.post(server.port, "/", b"{}"))[1] == b"abcd"


async def test_nobody_listening_is_an_error(loopback: Loopback, free_port: int) -> None:
    with pytest.raises(httpx.HTTPError):
        await loopback.post(free_port, "/", b"{}")


async def test_a_late_answer_is_a_timeout_and_hung_up_on() -> None:
    hasty = Loopback(timeout=0.1)
    async with serving() as server:
        server.waits.clear()
        with pytest.raises(httpx.ReadTimeout):
            await hasty.post(server.port, "/", b"{}")
        await async_wait_until(lambda: _is(server.closed == 1))


async def test_cancelling_hangs_up(loopback: Loopback) -> None:
    async with serving() as server:
        server.waits.clear()
        asking = asyncio.create_task(loopback.post(server.port, "/", b"{}"))
        await async_wait_until(lambda: _is(len(server.requests) == 1))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await async_wait_until(lambda: _is(server.closed == 1))


async def _is(value: bool) -> bool:
    return value
