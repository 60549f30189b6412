"""The whole loop with nothing mocked: real vLLM, Redis, HTTP, gradients, and a swap under load."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from demo.driver.client_load import ClientLoad
from demo.driver.system import System
from shared.client import ParityClient, StudentClient
from shared.contracts import JobState, JobStatus, Outcome, Split, Verdict
from shared.images import to_data_url
from shared.sets import read_set
from shared.store import Store
from tests.e2e.jobs import IMAGES, QUIET, all_pairs, finish, small_job

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]


async def test_a_job_ends_with_a_better_checkpoint_serving(
    system: System, data_dir: Path, pile: Path, labelled: Path
) -> None:
    load = ClientLoad(system.endpoints["student"], sorted(labelled.glob("*/*.png"))[:8], gentle_pause=0.1)
    async with StudentClient(system.endpoints["student"], model="student") as student:
        before = (await student.checkpoints()).active
    async with ParityClient(system.endpoints["parity"]) as client:
        gate = {"held_out_fraction": 0.25, "tolerance": 1.0, "min_gain": 0.0, "min_questions": 1}
        train = {"max_steps": 60, "batch_size": 24, "learning_rate": 1e-3, "save_every_steps": 30}
        job = await client.submit(small_job(pile, gate=gate, train=train, benchmark=str(labelled / "benchmark.jsonl")))
        assert job.state in (JobState.QUEUED, JobState.COLLECTING)
        load.start()
        load.press()
        job = await finish(client, job)
        asked = await load.stop()
        pairs = await all_pairs(client, job.id)
        report = await client.report(job.id)

    assert asked.failed == 0, asked.errors[:3]
    assert asked.served > 20
    slots = IMAGES * 2
    assert job.pairs == len(pairs) == slots
    assert Counter(p.verdict for p in pairs) == Counter(job.verdicts)
    assert job.verdicts[Verdict.DISPARITY] > 0
    assert {p.split for p in pairs} == {Split.TRAIN, Split.HELD_OUT}
    assert job.teacher_tokens.spent > 0
    assert job.teacher_tokens.saved > 0
    assert job.evaluation is not None
    assert job.evaluation.overall.accuracy_teacher is not None
    assert report.set_digest

    store = Store((data_dir / "store").as_uri())
    folder = store.open_local(f"checkpoints/student/job-{job.id}")
    card = json.loads((folder / "mpa_card.json").read_text())
    assert (card["base"], card["set_digest"]) == (before, report.set_digest)
    assert job.outcome in (Outcome.PROMOTED, Outcome.KEPT)
    async with StudentClient(system.endpoints["student"], model="student") as student:
        serving = (await student.checkpoints()).active
    assert (serving == f"job-{job.id}") == (job.outcome is Outcome.PROMOTED)
    if job.outcome is Outcome.PROMOTED:
        assert asked.versions[f"job-{job.id}"] > 0


async def test_the_checkpoint_is_a_plain_hugging_face_folder(data_dir: Path, calm: JobStatus) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    assert calm.outcome is Outcome.KEPT
    folder = Store((data_dir / "store").as_uri()).open_local(f"checkpoints/student/{calm.checkpoint}")
    assert AutoModelForImageTextToText.from_pretrained(folder).num_parameters() > 1_000_000
    assert AutoProcessor.from_pretrained(folder).chat_template
    assert not [p for p in folder.rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".pkl")]


@pytest.mark.parametrize("service", ["teacher", "student"])
async def test_the_openai_client_talks_to_both(system: System, labelled: Path, service: str) -> None:
    image = to_data_url(next(labelled.glob("chart/*.png")).read_bytes())
    content = [
        {"type": "image_url", "image_url": {"url": image}},
        {"type": "text", "text": "what type of chart is this?"},
    ]
    async with AsyncOpenAI(base_url=f"{system.endpoints[service]}/v1", api_key="none") as client:
        reply = await client.chat.completions.create(
            model=service, messages=[{"role": "user", "content": content}], max_tokens=8, temperature=0, logprobs=True
        )
        stream = await client.chat.completions.create(
            model=service, messages=[{"role": "user", "content": content}], max_tokens=8, temperature=0, stream=True
        )
        streamed = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
    assert reply.choices[0].message.content
    assert streamed.strip() == reply.choices[0].message.content.strip()
    assert reply.choices[0].logprobs is not None
    logprobs = reply.choices[0].logprobs.content
    assert logprobs and all(token.logprob <= 0 for token in logprobs)


async def test_no_request_fails_while_versions_change_back_and_forth(
    system: System, labelled: Path, calm: JobStatus
) -> None:
    load = ClientLoad(system.endpoints["student"], sorted(labelled.glob("*/*.png"))[:8], in_flight=8)
    async with StudentClient(system.endpoints["student"], model="student") as student:
        before = (await student.checkpoints()).active
        load.start()
        load.press()
        for version in (calm.checkpoint, "base", calm.checkpoint, before):
            assert version is not None
            served = load.result.served
            assert (await student.activate(version, by="test")).version == version
            async with asyncio.timeout(30):
                while load.result.served < served + 10:
                    await asyncio.sleep(0.02)
    result = await load.stop()
    assert result.failed == 0, result.errors[:3]
    assert result.versions[calm.checkpoint or ""] > 0
    assert set(result.versions) <= {calm.checkpoint, "base", before}


EVERY_TERM = {
    "preset": "discrepancy",
    "weigh_by": ["vote_share", "confidence", "reasoning", "attention"],
    "consistency": 0.3,
    "consistency_by": "top_k",
    "rationale": 0.3,
    "attention": 0.3,
}


async def test_all_that_differs_is_measured_and_trained_on(system: System, data_dir: Path, pile: Path) -> None:
    """Real log-probabilities, rationales and attention of vLLM's teacher and the student reach the trainer's loss."""
    train = {"max_steps": 3, "batch_size": 16, "loss": EVERY_TERM}
    async with ParityClient(system.endpoints["parity"]) as client:
        job = await client.submit(small_job(pile, gate=QUIET, discrepancies={"grid": 4}, train=train))
        job = await finish(client, job)
        pairs = await all_pairs(client, job.id)
    assert job.state is JobState.SUCCEEDED, job.last_error
    kept_pairs = [pair for pair in pairs if pair.verdict is Verdict.DISPARITY]
    assert all(pair.rationale and pair.confidence_gap is not None for pair in kept_pairs)
    assert {name: one.count for name, one in job.discrepancies.items()} == dict.fromkeys(
        ("confidence", "reasoning", "attention"), len(kept_pairs)
    )
    rows = read_set(Store((data_dir / "store").as_uri()), job.id).to_pylist()
    kept = [row for row in rows if row["verdict"] == Verdict.DISPARITY]
    assert kept
    for row in rows:
        for name in ("teacher_attention", "student_attention"):
            if row["verdict"] != Verdict.DISPARITY:
                assert row[name] is None
            else:
                assert len(row[name]) == 16 and sum(row[name]) == pytest.approx(1, abs=0.01)
    assert all(row["teacher_attention"] != row["student_attention"] for row in kept)
    for row in kept:
        # vLLM's alternatives begin with the tokens of its greedy answer, and end with the end of the turn
        assert "".join(place[0]["token"] for place in row["teacher_top"]).startswith(row["teacher_answer"])
        assert len(row["teacher_top"][0]) == 20
    progress = (data_dir / "store" / f"training/{job.id}/progress.jsonl").read_text().splitlines()
    terms = json.loads(progress[0])["terms"]
    assert all(terms[name] > 0 for name in ("answer", "consistency", "rationale", "attention"))
