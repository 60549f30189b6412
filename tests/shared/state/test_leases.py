"""Any order of takes, losses, failures, doubles, cancels, retries, rounds and lost Redises keeps the invariants."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from shared.contracts import JobState, Outcome, RoundReport
from shared.errors import Conflict, LeaseLost
from shared.state import (
    TRAIN_STATES,
    JobStore,
    Lease,
    Rebuilt,
    ShardResult,
    round_of_shard,
    shards_done,
    shards_of_round,
)
from tests.shared.state.conftest import Clock, stored

T = TypeVar("T")
SHARDS, ROUNDS, TTL, ATTEMPTS = 2, 3, 30.0, 3
shard_numbers = st.integers(0, SHARDS * ROUNDS - 1)


def machine_on(url: str) -> type[RuleBasedStateMachine]:
    class LeaseMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            with redis.Redis.from_url(url) as client:
                client.flushall()
            self.clock = Clock()
            self.loop = asyncio.new_event_loop()
            self.jobs = JobStore.from_url(url, clock=self.clock)
            self.call(self.jobs.create(stored(images=SHARDS, shard_size=1)))
            self.leases: list[Lease] = []
            self.current: dict[int, Lease] = {}
            self.completed: set[int] = set()
            self.trainings: list[Lease] = []
            self.training: Lease | None = None
            self.published: list[RoundReport] = []
            self.round = 1
            self.version = self.call(self.jobs.version("job-1"))

        def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
            return self.loop.run_until_complete(coroutine)

        def teardown(self) -> None:
            self.call(self.jobs.aclose())
            self.loop.close()

        @rule(shard=shard_numbers)
        def take(self, shard: int) -> None:
            lease = self.call(self.jobs.shards.acquire("job-1", shard, "w", TTL, ATTEMPTS))
            if lease is None:
                return
            held = self.current.get(shard)
            assert held is None or held.expires <= self.clock.now, "a live lease was given away"
            assert shard not in self.completed, "finished work was given away"
            assert round_of_shard(shard, SHARDS) == self.round, "work of another round was given away"
            self.leases.append(lease)
            self.current[shard] = lease

        @precondition(lambda self: self.leases)
        @rule(data=st.data(), what=st.sampled_from(["heartbeat", "complete", "release", "postpone", "fail"]))
        def write(self, data: st.DataObject, what: str) -> None:
            lease = data.draw(st.sampled_from(self.leases))
            assert lease.shard is not None
            valid = self.current.get(lease.shard) == lease
            calls: dict[str, Coroutine[Any, Any, Any]] = {
                "heartbeat": self.jobs.shards.heartbeat(lease, TTL),
                "complete": self.jobs.shards.complete(lease, ShardResult(images=1)),
                "release": self.jobs.shards.release(lease),
                "postpone": self.jobs.shards.postpone(lease, "a place", 5.0),
                "fail": self.jobs.shards.fail(lease, "boom", ATTEMPTS),
            }
            chosen = calls.pop(what)
            for unused in calls.values():
                unused.close()
            if not valid:
                with pytest.raises(LeaseLost):
                    self.call(chosen)
                return
            result = self.call(chosen)
            if what == "heartbeat":
                self.leases[self.leases.index(lease)] = self.current[lease.shard] = result
                return
            del self.current[lease.shard]
            if what == "complete":
                self.completed.add(lease.shard)

        @rule(seconds=st.sampled_from([1.0, 10.0, 31.0]))
        def wait(self, seconds: float) -> None:
            self.clock.pass_seconds(seconds)

        @rule(short=st.booleans())
        def reconcile(self, short: bool) -> None:
            present = list(shards_of_round(self.round, SHARDS))
            claimed = self.call(self.jobs.shards.claim_due("job-1", present, TTL, short, ATTEMPTS))
            for shard in list(self.current):
                if self.current[shard].expires <= self.clock.now and self.state() in (
                    JobState.QUEUED,
                    JobState.COLLECTING,
                ):
                    del self.current[shard]
            assert not set(claimed) & (set(self.current) | self.completed)

        @rule()
        def cancel(self) -> None:
            if self.state().is_final and self.state() is not JobState.CANCELLED:
                with pytest.raises(Conflict):
                    self.call(self.jobs.cancel("job-1"))
                return
            self.call(self.jobs.cancel("job-1"))
            self.current.clear()
            self.training = None

        @rule()
        def retry(self) -> None:
            if self.state() is JobState.CANCELLED:
                self.call(self.jobs.retry("job-1"))

        @rule()
        def finish_what_is_left(self) -> None:
            for shard in shards_of_round(self.round, SHARDS):
                lease = self.call(self.jobs.shards.acquire("job-1", shard, "quick", TTL, ATTEMPTS))
                if lease is not None:
                    self.call(self.jobs.shards.complete(lease, ShardResult(images=1)))
                    self.current.pop(shard, None)
                    self.completed.add(shard)

        @rule()
        def settle(self) -> None:
            if shards_done(self.call(self.jobs.snapshot("job-1"))) and self.state() is JobState.COLLECTING:
                assert self.call(self.jobs.transition("job-1", JobState.COLLECTING, JobState.TRAINING))

        @rule()
        def train(self) -> None:
            lease = self.call(self.jobs.trainings.acquire("job-1", "t", TTL, ATTEMPTS))
            if lease is None:
                return
            held = self.training
            assert held is None or held.expires <= self.clock.now, "a live training was given away"
            self.trainings.append(lease)
            self.training = lease

        @precondition(lambda self: self.trainings)
        @rule(data=st.data())
        def conclude(self, data: st.DataObject) -> None:
            """As the trainer does: the round is published before the job moves on, and steps are repeated freely."""
            lease = data.draw(st.sampled_from(self.trainings))
            if lease != self.training or self.state() not in TRAIN_STATES:
                with pytest.raises(LeaseLost):
                    self.call(self.jobs.trainings.next_round(lease, self.published))
                return
            if len(self.published) < self.round:
                self.published.append(report(self.round))
            if data.draw(st.booleans(), label="died after it published"):
                return
            self.call(self.jobs.trainings.advance(lease, JobState.EVALUATING, rounds=self.published))
            self.training = None
            if self.published[-1].goes_on:
                self.call(self.jobs.trainings.next_round(lease, self.published))
                self.round += 1
            else:
                self.call(self.jobs.trainings.finish(lease, Outcome.KEPT, "done"))

        @rule()
        def lose_redis(self) -> None:
            """The record is made anew from what the store has; a final job's is its report, which is not modelled."""
            if self.state().is_final:
                return
            with redis.Redis.from_url(url) as client:
                client.flushall()
            self.clock.pass_seconds(1000.0)  # versions of a record that is made anew begin with the time
            shards = {shard: ShardResult(images=1) for shard in self.completed}
            rebuilt = Rebuilt(shards, rounds=self.published)
            assert self.call(self.jobs.create(stored(images=SHARDS, shard_size=1), rebuilt))
            self.current.clear()
            self.training = None
            self.round = rebuilt.round

        def state(self) -> JobState:
            return self.call(self.jobs.get("job-1")).state

        @invariant()
        def counts_are_what_was_completed(self) -> None:
            status = self.call(self.jobs.get("job-1"))
            here = self.completed & set(shards_of_round(self.round, SHARDS))
            assert (status.round, status.shards.done, status.images.done) == (self.round, len(here), len(here))
            assert len(status.past_rounds) >= self.round - 1
            assert status.version >= self.version
            self.version = status.version
            assert (status.outcome is not None) == (status.state is JobState.SUCCEEDED)

    return LeaseMachine


def report(number: int) -> RoundReport:
    return RoundReport(
        round=number, student=f"r{number - 1}", candidate=f"r{number}", pairs=1, verdicts={}, goes_on=number < ROUNDS
    )


def test_leases_hold_in_any_order(redis_url: str) -> None:
    run_state_machine_as_test(
        machine_on(redis_url),
        settings=settings(
            max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
