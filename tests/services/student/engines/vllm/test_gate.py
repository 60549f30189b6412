"""Requests pass together; a swap waits for those inside, and later ones wait for the swap."""

from __future__ import annotations

import asyncio

import pytest

from services.student.engines.vllm.gate import SwapGate


class Log:
    """Requests and swaps that note when they begin, and end when they are let go."""

    def __init__(self) -> None:
        self.gate, self.events = SwapGate(), list[str]()
        self._let_go: dict[str, asyncio.Event] = {}

    def start(self, name: str) -> asyncio.Task[None]:
        self._let_go[name] = asyncio.Event()
        return asyncio.create_task(self._run(name))

    async def end(self, name: str) -> None:
        self._let_go[name].set()
        await settle()

    async def _run(self, name: str) -> None:
        async with self.gate.closed() if name.startswith("swap") else self.gate.passing():
            self.events.append(name)
            await self._let_go[name].wait()
            self.events.append(f"{name} ends")


async def settle() -> None:
    """Let all tasks run until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_swap_waits_for_those_inside_and_the_others_for_the_swap() -> None:
    log = Log()
    tasks = [log.start(name) for name in ("a", "b")]
    await settle()
    tasks += [log.start("swap")]
    await settle()
    tasks += [log.start("c")]
    await settle()
    assert log.events == ["a", "b"]
    await log.end("a")
    assert log.events == ["a", "b", "a ends"]
    await log.end("b")
    assert log.events[3:] == ["b ends", "swap"]
    await log.end("swap")
    assert log.events[5:] == ["swap ends", "c"]
    await log.end("c")
    await asyncio.gather(*tasks)


async def test_two_swaps_do_not_overlap() -> None:
    log = Log()
    tasks = [log.start("swap 1"), log.start("swap 2")]
    await settle()
    assert log.events == ["swap 1"]
    await log.end("swap 1")
    assert log.events == ["swap 1", "swap 1 ends", "swap 2"]
    await log.end("swap 2")
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("name", ["a", "swap"])
async def test_a_cancelled_holder_leaves_the_gate_open(name: str) -> None:
    log = Log()
    holder = log.start(name)
    await settle()
    waiting = log.start("swap 2")
    await settle()
    holder.cancel()
    await settle()
    assert log.events == [name, "swap 2"]
    await log.end("swap 2")
    await waiting


async def test_a_swap_that_is_given_up_while_it_waits_opens_the_gate() -> None:
    log = Log()
    first, swap = log.start("a"), log.start("swap")
    await settle()
    later = log.start("b")
    await settle()
    swap.cancel()
    await settle()
    assert log.events == ["a", "b"]
    for name in ("a", "b"):
        await log.end(name)
    await asyncio.gather(first, later)
