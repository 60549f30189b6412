"""Two rounds for real: the first one's candidate is asked, privately, what the second one trains it on."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.driver.system import System
from shared.canaries import CanaryRegistry
from shared.client import ParityClient, StudentClient
from shared.contracts import Outcome, Split, Verdict
from shared.sets import read_set
from shared.store import Store
from tests.e2e.jobs import finish, small_job

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]
IMAGES = 40


@pytest.fixture(scope="module")
def part_of_pile(pile: Path) -> Path:
    lines = (pile / "manifest.jsonl").read_text().splitlines()[:IMAGES]
    (pile / "part.jsonl").write_text("\n".join(lines) + "\n")
    return pile / "part.jsonl"


async def test_the_second_round_asks_the_first_ones_candidate(
    system: System, data_dir: Path, pile: Path, part_of_pile: Path
) -> None:
    spec = small_job(
        pile,
        images={"kind": "manifest", "path": str(part_of_pile)},
        train={"max_steps": 40, "batch_size": 24, "learning_rate": 1e-3, "save_every_steps": 40},
        gate={"held_out_fraction": 0.25, "tolerance": 1.0, "promote": False},
        rounds={"max": 2, "min_gain": 0.0, "min_disparity": 0.0, "steer": True},
    )
    async with StudentClient(system.endpoints["student"], model="student") as student:
        before = (await student.checkpoints()).active
        async with ParityClient(system.endpoints["parity"]) as client:
            job = await finish(client, await client.submit(spec))
            report = await client.report(job.id)
        assert (await student.checkpoints()).active == before
    assert job.outcome is Outcome.KEPT
    first, second = report.status.past_rounds
    assert (first.student, first.candidate) == (before, f"job-{job.id}")
    assert (second.student, second.candidate) == (f"job-{job.id}", f"job-{job.id}-r2"), first.reason
    assert second.evaluation is not None
    assert first.evaluation is not None
    assert second.evaluation.overall.agreement_before == first.evaluation.overall.agreement_before
    assert second.evaluation_new is not None
    store = Store((data_dir / "store").as_uri())
    rows = read_set(store, job.id).to_pylist()
    assert job.pairs == len(rows) == sum(past.pairs for past in report.status.past_rounds)
    asked = {number: {r["student_version"] for r in rows if r["round"] == number} - {None} for number in (1, 2)}
    assert asked == {1: {before}, 2: {f"job-{job.id}"}}
    held_out = [{r["image"] for r in rows if r["round"] == n and r["split"] == Split.HELD_OUT} for n in (1, 2)]
    assert held_out[0] == held_out[1]
    questions = [
        (r["image"], r["question"]) for r in rows if r["verdict"] not in (Verdict.DUPLICATE,) and r["question"]
    ]
    assert len(questions) == len(set(questions)), "no question is kept twice"
    canary = CanaryRegistry(store, "student").latest()
    assert canary is not None
    assert (canary.version, canary.started_by, canary.reason) == (f"job-{job.id}", f"job {job.id}", "the round is over")
