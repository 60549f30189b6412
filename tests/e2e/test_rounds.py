"""Rounds for real: the first round's candidate answers the questions of the second round privately."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from demo.driver.system import System
from shared.checkpoints import CheckpointRegistry, build_card
from shared.checkpoints.canaries import CanaryRegistry
from shared.client import ParityClient, StudentClient
from shared.contracts import Outcome, Split, Verdict
from shared.sets import read_set
from shared.store import Store
from tests.e2e.jobs import finish, small_job

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]
PICTURES, COPIES = 12, 4
NOISE = 0.6
"""Of each weight's size: leaves a student that is right about one question in five."""


@pytest.fixture(scope="module")
def near_copies(pile: Path) -> Path:
    """A pile of near copies: what is learned from one image holds for others, so that few images improve a student."""
    lines = [json.loads(line) for line in (pile / "manifest.jsonl").read_text().splitlines()[:PICTURES]]
    copies = []
    for line in lines:
        with Image.open(pile / line["image"]) as image:
            for copy in range(COPIES):
                image.putpixel((0, 0), (copy, copy, copy))
                path = pile / f"copy-{len(copies):02d}.png"
                image.save(path)
                copies.append(json.dumps({**line, "image": path.name}))
    (pile / "copies.jsonl").write_text("\n".join(copies) + "\n")
    return pile / "copies.jsonl"


@pytest.fixture
async def damaged(system: System, data_dir: Path, tmp_path: Path) -> AsyncIterator[str]:
    """A damaged student serves meanwhile: it is easy to improve."""
    registry = CheckpointRegistry(Store((data_dir / "store").as_uri()), "student")
    async with StudentClient(system.endpoints["student"], model="student") as student:
        before = (await student.checkpoints()).active
        folder = shutil.copytree(registry.local(before), tmp_path / "damaged")
        draw = torch.Generator().manual_seed(0)
        weights = load_file(folder / "model.safetensors")
        for weight in weights.values():
            if weight.dim() > 1:
                weight *= (1 + NOISE * torch.randn(weight.shape, generator=draw)).to(weight.dtype)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        registry.publish(folder, build_card(folder, version="damaged", student="student", base=before))
        await student.activate("damaged", by="a test")
        yield "damaged"
        await student.activate(before, by="a test")


async def test_the_second_round_asks_the_first_ones_candidate(
    system: System, data_dir: Path, pile: Path, near_copies: Path, damaged: str
) -> None:
    spec = small_job(
        pile,
        images={"kind": "manifest", "path": str(near_copies)},
        train={"max_steps": 40, "batch_size": 24, "learning_rate": 1e-3, "save_every_steps": 40},
        gate={"held_out_fraction": 0.25, "tolerance": 1.0, "promote": False, "min_questions": 1},
        rounds={"max": 2, "min_gain": 0.0, "min_disparity": 0.0, "steer": True},
    )
    async with StudentClient(system.endpoints["student"], model="student") as student:
        async with ParityClient(system.endpoints["parity"]) as client:
            job = await finish(client, await client.submit(spec))
            report = await client.report(job.id)
        assert (await student.checkpoints()).active == damaged
    assert job.outcome is Outcome.KEPT
    first, second = report.status.past_rounds
    assert (first.student, first.candidate) == (damaged, f"job-{job.id}")
    assert (second.student, second.candidate) == (f"job-{job.id}", f"job-{job.id}-r2"), first.reason
    assert first.evaluation is not None
    assert second.evaluation is not None
    assert second.evaluation.overall.agreement_before == first.evaluation.overall.agreement_before
    assert second.evaluation_new is not None
    store = Store((data_dir / "store").as_uri())
    rows = read_set(store, job.id).to_pylist()
    assert job.pairs == len(rows) == sum(past.pairs for past in report.status.past_rounds)
    asked = {number: {r["student_version"] for r in rows if r["round"] == number} - {None} for number in (1, 2)}
    assert asked == {1: {damaged}, 2: {f"job-{job.id}"}}
    held_out = [{r["image"] for r in rows if r["round"] == n and r["split"] == Split.HELD_OUT} for n in (1, 2)]
    assert held_out[0] == held_out[1]
    questions = [
        (r["image"], r["question"]) for r in rows if r["verdict"] not in (Verdict.DUPLICATE,) and r["question"]
    ]
    assert len(questions) == len(set(questions)), "no question is kept twice"
    canary = CanaryRegistry(store, "student").latest()
    assert canary is not None
    assert (canary.version, canary.started_by, canary.reason) == (f"job-{job.id}", f"job {job.id}", "the round is over")
