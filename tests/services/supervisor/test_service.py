"""One child: readiness, restart with backoff, stop within the deadline, log."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.supervisor.logbook import LogBook
from services.supervisor.service import NotReady, ProcessSpec, RestartPolicy, Service
from shared.backoff import Backoff
from shared.processes.family import descendants
from tests.polling import async_wait_until
from tests.services.supervisor.small import gone, spec

QUICK = RestartPolicy(Backoff(0.05, 0.2), stable=60, tries_to_start=3)


class Children:
    """Makes children with a common log and stops them at the end of a test."""

    def __init__(self, folder: Path) -> None:
        self.log = LogBook(folder / "mpa.log", ["web"])
        self._made: list[Service] = []

    def make(self, what: ProcessSpec) -> Service:
        child = Service(what, self.log, policy=QUICK)
        self._made.append(child)
        child.start()
        return child

    async def stop(self) -> None:
        for child in self._made:
            await child.stop(0.2)


@pytest.fixture
async def children(tmp_path: Path) -> AsyncIterator[Children]:
    made = Children(tmp_path)
    yield made
    await made.stop()


def pid_of(child: Service) -> int:
    assert child.pid is not None
    return child.pid


async def test_a_child_becomes_ready_and_its_words_are_logged(children: Children, tmp_path: Path) -> None:
    child = children.make(spec("web", "good"))
    await child.wait_ready(10)
    assert not gone(pid_of(child))
    assert "web | good speaks" in (tmp_path / "mpa.log").read_text()


async def test_a_killed_child_is_started_again_on_the_same_url(children: Children, tmp_path: Path) -> None:
    child = children.make(spec("web", "good"))
    await child.wait_ready(10)
    before = pid_of(child)
    os.kill(before, signal.SIGKILL)

    async def replaced() -> bool:
        return child.pid not in (None, before)

    await async_wait_until(replaced)
    await child.wait_ready(10)
    assert child.restarts == 1
    assert "web was killed by signal 9 (SIGKILL); restarting in 0.1 s" in (tmp_path / "mpa.log").read_text()


async def test_the_wait_before_a_restart_grows_to_a_bound(children: Children, tmp_path: Path) -> None:
    child = children.make(spec("web", "good"))
    await child.wait_ready(10)
    for restarts in range(1, 5):
        os.kill(pid_of(child), signal.SIGKILL)

        async def restarted(wanted: int = restarts) -> bool:
            return child.restarts == wanted and child.pid is not None

        await async_wait_until(restarted)
    log = (tmp_path / "mpa.log").read_text()
    assert [line.split()[-2] for line in log.splitlines() if "restarting in" in line] == ["0.1", "0.1", "0.2", "0.2"]


async def test_a_stubborn_child_is_killed_at_the_deadline(children: Children) -> None:
    child = children.make(spec("web", "stubborn"))
    await child.wait_ready(10)
    pid, started = pid_of(child), time.monotonic()
    await child.stop(0.5)
    assert 0.5 <= time.monotonic() - started < 3
    assert gone(pid)
    assert child.pid is None


async def test_a_polite_child_stops_at_once_and_is_not_restarted(children: Children) -> None:
    child = children.make(spec("web", "good"))
    await child.wait_ready(10)
    pid, started = pid_of(child), time.monotonic()
    await child.stop(10)
    assert time.monotonic() - started < 5
    assert gone(pid)
    assert child.restarts == 0


async def test_a_grandchild_in_another_session_does_not_survive(children: Children) -> None:
    child = children.make(spec("web", "family"))
    await child.wait_ready(10)
    grandchildren = descendants(pid_of(child))
    assert grandchildren
    await child.stop(5)
    assert all(gone(member.pid) for member in grandchildren)


@pytest.mark.slow
async def test_a_child_that_is_never_ready_is_a_clear_error(children: Children) -> None:
    child = children.make(spec("web", "cold"))
    with pytest.raises(NotReady, match=r"web was not ready after 3 s: still warming up\. .* were:\n  cold speaks"):
        await child.wait_ready(3)


async def test_a_child_that_ends_again_and_again_is_given_up_early(children: Children) -> None:
    child = children.make(spec("web", "dead"))
    with pytest.raises(NotReady, match=r"(?s)web ended 3 times before it was ready.*no model there"):
        await child.wait_ready(60)


async def test_a_worker_without_http_is_ready_when_it_has_settled(children: Children) -> None:
    web = spec("web", "good")
    child = children.make(ProcessSpec("web", web.command, settle=0.6))
    started = time.monotonic()
    await child.wait_ready(10)
    assert 0.5 < time.monotonic() - started < 5
