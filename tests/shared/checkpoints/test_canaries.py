"""The canary record: one canary at a time, and of two decisions at once exactly one happens."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.strategies import floats, sampled_from

from shared.checkpoints.canaries import LEGAL, CanaryRegistry
from shared.contracts import Canary, CanaryRequest, CanaryRule, CanaryState
from shared.errors import Conflict, NotFound
from shared.store import Store


@pytest.fixture
def canaries(tmp_store_url: str) -> CanaryRegistry:
    return CanaryRegistry(Store(tmp_store_url), "student")


def request(version: str = "job-a", **options: object) -> CanaryRequest:
    return CanaryRequest.model_validate({"version": version, "by": "test", **options})


def test_starting_twice_changes_nothing_and_other_shares_are_taken_over(canaries: CanaryRegistry) -> None:
    assert canaries.latest() is None
    first = canaries.start(request(share=0.1), "base")
    assert canaries.start(request(share=0.1), "base") == first
    wider = canaries.start(request(share=0.5, rule=CanaryRule()), "base")
    assert (wider.id, wider.revision, wider.share, wider.rule) == (first.id, 1, 0.5, CanaryRule())
    assert canaries.latest() == wider
    with pytest.raises(Conflict, match="The canary of job-a is running"):
        canaries.start(request("job-b"), "base")


def test_a_canary_ends_once(canaries: CanaryRegistry) -> None:
    with pytest.raises(NotFound, match="never had a canary"):
        canaries.move("canary-0", CanaryState.ABORTED, "me", "why not")
    first = canaries.start(request(), "base")
    ended = canaries.move(first.id, CanaryState.ABORTED, "me", "too slow")
    assert canaries.move(first.id, CanaryState.ABORTED, "you", "again") == ended
    with pytest.raises(Conflict, match=r"aborted already \(too slow\)"):
        canaries.move(first.id, CanaryState.PROMOTING, "you", "late")
    second = canaries.start(request("job-b"), "base")
    assert second.id != first.id
    with pytest.raises(Conflict, match="the canary of job-b came after it"):
        canaries.move(first.id, CanaryState.PROMOTED, "you", "later")


def private(version: str = "job-a", **options: object) -> CanaryRequest:
    return request(version, **{"share": 0.0, "lifetime_seconds": 100.0, "by": "job j1", **options})


def test_a_private_candidate_is_prolonged_now_and_then_and_ended_by_its_owner_only(canaries: CanaryRegistry) -> None:
    first = canaries.start(private(), "base")
    assert first.is_private
    assert first.expires_at is not None
    assert canaries.start(private(), "base") == first, "not a file for every call"
    longer = canaries.start(private(lifetime_seconds=200.0), "base")
    assert longer.expires_at is not None
    assert (longer.id, longer.share) == (first.id, 0.0)
    assert (longer.expires_at - first.expires_at).total_seconds() > 90
    with pytest.raises(Conflict, match=r"private candidate of job-a is running \(begun by job j1\)"):
        canaries.start(request("job-b"), "base")
    assert not canaries.end_private("job j2", "mine?")
    assert canaries.end_private("job j1", "the round is over")
    assert not canaries.end_private("job j1", "again")
    latest = canaries.latest()
    assert latest is not None
    assert (latest.state, latest.reason) == (CanaryState.ABORTED, "the round is over")


def test_a_job_leaves_a_public_canary_of_its_candidate_alone(canaries: CanaryRegistry) -> None:
    public = canaries.start(request(share=0.2), "base")
    assert canaries.start(private(), "base") == public
    assert not canaries.end_private("job j1", "the round is over")
    ended = canaries.move(public.id, CanaryState.ABORTED, "me", "enough")
    mine = canaries.start(private(), "base")
    assert mine.id != ended.id
    opened = canaries.start(request(share=0.2), "base")
    assert (opened.id, opened.share, opened.expires_at) == (mine.id, 0.2, None)
    assert not canaries.end_private("job j1", "somebody else uses it now")


@pytest.mark.parametrize("options", [{"share": 0.0}, {"share": 0.5, "lifetime_seconds": 9.0}])
def test_only_private_candidates_end_by_themselves_and_all_of_them_do(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs lifetime_seconds"):
        request(**options)


def test_of_many_decisions_at_once_one_wins(tmp_store_url: str) -> None:
    def decide(number: int) -> str:
        mine = CanaryRegistry(Store(tmp_store_url), "student")
        state = CanaryState.PROMOTED if number % 2 else CanaryState.ABORTED
        try:
            return mine.move(canary.id, state, f"decider-{number}", "now").changed_by
        except Conflict:
            return "too late"

    canary = CanaryRegistry(Store(tmp_store_url), "student").start(request(), "base")
    with ThreadPoolExecutor(8) as pool:
        winners = set(pool.map(decide, range(16))) - {"too late"}
    assert len(winners) == 1


def test_a_lost_or_old_copy_is_read_around(canaries: CanaryRegistry, tmp_store_url: str) -> None:
    first = canaries.start(request(), "base")
    old = Store(tmp_store_url).read("checkpoints/student/canary.json")
    ended = canaries.move(first.id, CanaryState.ABORTED, "me", "because")
    Store(tmp_store_url).write("checkpoints/student/canary.json", old)
    assert canaries.latest() == ended
    Store(tmp_store_url).write("checkpoints/student/canary.json", b"{")
    assert canaries.latest() == ended
    Store(tmp_store_url).delete("checkpoints/student/canary.json")
    assert canaries.latest() == ended


class CanaryMachine(RuleBasedStateMachine):
    """Any order of starts and decisions: revisions count up by one, and only legal steps are written."""

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.canaries = CanaryRegistry(Store(Path(self.folder.name).as_uri()), "student")
        self.last: Canary | None = None

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(version=sampled_from(["job-a", "job-b"]), share=floats(0.1, 1.0))
    def start(self, version: str, share: float) -> None:
        try:
            self.step(self.canaries.start(request(version, share=share), "base"), started=True)
        except Conflict:
            assert self.last is not None
            assert self.last.version != version or self.last.state is CanaryState.PROMOTING

    @rule(state=sampled_from([CanaryState.PROMOTING, CanaryState.PROMOTED, CanaryState.ABORTED]))
    def move(self, state: CanaryState) -> None:
        if self.last is None:
            return
        try:
            self.step(self.canaries.move(self.last.id, state, "me", "because"), started=False)
        except Conflict:
            assert state not in LEGAL[self.last.state]

    def step(self, found: Canary, *, started: bool) -> None:
        last, self.last = self.last, found
        if found == last:
            return
        assert found.revision == (0 if last is None else last.revision + 1)
        if last is not None and found.id == last.id:
            assert found.state in LEGAL[last.state] or (started and found.state is last.state)
        else:
            assert started and (last is None or last.state.is_final)

    @invariant()
    def latest_is_the_last(self) -> None:
        if hasattr(self, "canaries"):
            assert self.canaries.latest() == self.last


CanaryMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestCanaryMachine = CanaryMachine.TestCase
