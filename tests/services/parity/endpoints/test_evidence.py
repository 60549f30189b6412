"""When failures of one request are too many to be chance, and who asks whether a server is well."""

from __future__ import annotations

import asyncio
import time

import pytest

from services.parity.endpoints.evidence import Call, Evidence, Trial
from shared.backoff import Backoff
from shared.concurrency import run_all
from shared.errors import Unavailable

PAUSES = Backoff(60.0, 60.0)


def failed_alone(evidence: Evidence, times: int, passes: int = 1) -> Trial:
    """A request that failed ``times``, with ``passes`` of others after each."""
    trial = Trial()
    for _ in range(times):
        trial.failed()
        for _ in range(passes):
            evidence.passed(time.monotonic())
        assert trial.confirmed(evidence)
    return trial


@pytest.mark.parametrize(("times", "at_fault"), [(1, False), (4, False), (6, False), (7, True), (20, True)])
def test_with_one_pass_between_seven_failures_are_enough(times: int, at_fault: bool) -> None:
    evidence = Evidence()
    assert failed_alone(evidence, times).at_fault(evidence, 0.0, 1e-6) is at_fault


@pytest.mark.parametrize(("times", "at_fault"), [(2, False), (3, True)])
def test_the_more_others_pass_the_fewer_failures_it_takes(times: int, at_fault: bool) -> None:
    evidence = Evidence()
    assert failed_alone(evidence, times, passes=100).at_fault(evidence, 0.0, 1e-6) is at_fault


def test_failures_that_passed_in_the_end_speak_for_the_request() -> None:
    evidence = Evidence()
    trial = failed_alone(evidence, 7)
    evidence.passed(time.monotonic(), failures=[time.monotonic()] * 20)
    assert not trial.at_fault(evidence, 0.0, 1e-6)
    assert not evidence.well


def test_it_takes_time_as_well() -> None:
    evidence = Evidence()
    assert not failed_alone(evidence, 50).at_fault(evidence, 10.0, 1e-6)


def test_failures_of_an_outage_do_not_count() -> None:
    evidence, trial = Evidence(), Trial()
    evidence.passed(time.monotonic())
    for _ in range(100):
        trial.failed()
        assert not trial.confirmed(evidence)
    assert trial.alone == [] and trial.needs_probe
    evidence.passed(time.monotonic())
    assert trial.confirmed(evidence) and len(trial.alone) == 1  # all of them together are one


def test_a_call_that_began_before_the_failure_shows_nothing() -> None:
    evidence, trial = Evidence(), Trial()
    began = time.monotonic()
    trial.failed()
    evidence.passed(began - 1)
    assert not trial.confirmed(evidence)


async def test_one_probe_serves_all_who_wait_and_comes_ever_more_rarely() -> None:
    evidence, asked = Evidence(), 0

    async def ask(known_good: Call | None) -> object:
        nonlocal asked
        asked += 1
        raise Unavailable("away")

    for _ in range(3):
        await run_all(*(evidence.probe(time.monotonic(), ask, PAUSES) for _ in range(5)))
    assert asked == 1


async def test_a_probe_that_passes_is_evidence_and_repeats_what_passed_before() -> None:
    evidence, sent = Evidence(), list[Call | None]()

    async def known_good() -> object:
        return None

    async def ask(call: Call | None) -> object:
        sent.append(call)
        return None

    since = time.monotonic()
    await evidence.probe(since, ask, PAUSES)
    await evidence.probe(since, ask, PAUSES)
    evidence.passed(since, known_good)
    await evidence.probe(time.monotonic(), ask, PAUSES)
    assert sent == [None, known_good]


async def test_who_waits_wakes_with_a_pass_that_began_afterwards() -> None:
    evidence, since = Evidence(), time.monotonic()
    waiting = asyncio.create_task(evidence.wait_for_pass(since, 60.0))
    await asyncio.sleep(0)
    evidence.passed(since - 1)
    await _idle()
    assert not waiting.done()
    evidence.passed(time.monotonic())
    await asyncio.wait_for(waiting, 5.0)


async def _idle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_words_are_proven_until_a_request_passes_in_spite_of_them() -> None:
    evidence = Evidence()
    evidence.prove("400 too long")
    assert evidence.is_proven("400 too long") and not evidence.is_proven("400 oops")
    evidence.passed(time.monotonic(), refusals={"400 too long"})
    assert not evidence.is_proven("400 too long")
