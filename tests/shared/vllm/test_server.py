"""Supervision of the model server: readiness, restarts, the watchdog, the end."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.backoff import Backoff
from shared.vllm.server import ModelServer, ServerTimes
from tests.polling import async_wait_until
from tests.services.teacher.small import SmallModel, gone

pytestmark = pytest.mark.slow  # starts and kills real processes

QUICK = ServerTimes(ready=30, poll=0.05, watch_every=0.1, idle=0.05, probe=0.3, backoff=Backoff(0.05, 0.2), stop=1.0)


@pytest.fixture
def small(tmp_path: Path) -> SmallModel:
    return SmallModel(tmp_path / "small")


@pytest.fixture
async def server(small: SmallModel) -> AsyncIterator[ModelServer]:
    made = ModelServer(small.command, small.env, "teacher", QUICK)
    await made.start()
    yield made
    await made.stop()
    assert all(gone(pid) for pid in small.helpers), "the server's helper process was left behind"


async def until_ready(server: ModelServer) -> None:
    async def ready() -> bool:
        return server.ready

    await async_wait_until(ready, 20)


async def until_restarted(server: ModelServer, times: int = 1) -> None:
    async def restarted() -> bool:
        return server.restarts >= times

    await async_wait_until(restarted, 20)


async def test_ready_only_when_a_real_chat_is_answered(small: SmallModel) -> None:
    small.set("fail")
    server = ModelServer(small.command, small.env, "teacher", QUICK)
    await server.start()

    async def asked() -> bool:
        return "answered with 500" in server.reason

    await async_wait_until(asked, 20)
    assert not server.ready
    small.set("ok")
    await until_ready(server)
    assert server.reason == "" and server.restarts == 0
    await server.stop()
    assert not server.ready


async def test_what_else_it_needs_is_done_at_each_start_before_it_is_ready(small: SmallModel) -> None:
    asked: list[bool] = []

    async def prepare() -> str | None:
        asked.append(server.ready)
        return "has no adapter" if len(asked) == 1 else None

    server = ModelServer(small.command, small.env, "teacher", QUICK, prepare)
    await server.start()
    await until_restarted(server)
    await until_ready(server)
    assert asked == [False, False]
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await until_restarted(server, 2)
    await until_ready(server)
    assert asked == [False] * 3
    await server.stop()


async def test_a_killed_server_is_replaced_with_its_whole_group(server: ModelServer, small: SmallModel) -> None:
    await until_ready(server)
    first = server.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until_restarted(server)
    assert gone(small.helpers[0])
    await until_ready(server)
    assert server.pid != first and not gone(small.helpers[-1])


async def test_a_server_that_hangs_behind_a_fine_health_route_is_replaced(
    server: ModelServer, small: SmallModel
) -> None:
    await until_ready(server)
    first = server.pid
    small.set("hang")
    await until_restarted(server)
    assert first is not None and gone(first)
    small.set("ok")
    await until_ready(server)


async def test_one_failed_probe_restarts_nothing(server: ModelServer, small: SmallModel) -> None:
    await until_ready(server)
    asked = len(small.notes("body"))
    small.set("fail")

    async def failed_once() -> bool:
        return len(small.notes("body")) > asked

    await async_wait_until(failed_once)
    small.set("ok")
    asked = len(small.notes("body"))

    async def asked_on() -> bool:
        return len(small.notes("body")) > asked + QUICK.failures

    await async_wait_until(asked_on)
    assert server.ready and server.restarts == 0


async def test_a_server_that_ends_at_once_is_tried_again_and_says_why(small: SmallModel) -> None:
    small.set("end")
    server = ModelServer(small.command, small.env, "teacher", QUICK)
    await server.start()
    await until_restarted(server, 2)
    assert "exited with code 1" in server.reason or "starting" in server.reason
    small.set("ok")
    await until_ready(server)
    await server.stop()


async def test_a_server_that_never_answers_is_given_up_after_the_timeout(small: SmallModel) -> None:
    small.set("fail")
    patience = ServerTimes(ready=1.5, poll=0.05, backoff=Backoff(0.05, 30.0), stop=0.5)
    server = ModelServer(small.command, small.env, "teacher", patience)
    await server.start()
    await until_restarted(server)
    small.set("ok")
    await server.stop()


async def test_a_missing_interpreter_is_named_in_the_reason(small: SmallModel) -> None:
    server = ModelServer(lambda port: ["/nowhere/python", str(port)], small.env, "teacher", QUICK)
    await server.start()
    await until_restarted(server)
    assert "/nowhere/python" in server.reason
    await server.stop()


async def test_stop_ends_a_server_that_ignores_sigterm(tmp_path: Path) -> None:
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    server = ModelServer(lambda port: [sys.executable, "-c", script], dict(os.environ), "teacher", QUICK)
    await server.start()

    async def started() -> bool:
        return server.pid is not None

    await async_wait_until(started)
    pid = server.pid
    await server.stop()
    assert pid is not None and gone(pid)


async def test_the_servers_words_are_logged_at_their_level(
    server: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await until_ready(server)
    spoken = [r for r in caplog.records if "small server speaks" in r.message]
    assert [r.levelno for r in spoken] == [logging.WARNING]


async def test_a_failure_that_a_user_saw_is_looked_at_at_once(small: SmallModel) -> None:
    patience = ServerTimes(ready=30, poll=0.05, watch_every=60, stop=1.0)
    server = ModelServer(small.command, small.env, "teacher", patience)
    await server.start()
    await until_ready(server)
    asked = len(small.notes("body"))
    server.saw_failure()

    async def probed() -> bool:
        return len(small.notes("body")) > asked

    await async_wait_until(probed)
    assert server.ready
    await server.stop()
