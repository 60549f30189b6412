"""Discrepancies of kept pairs: measured as the spec asks, null where a model cannot say, refused where none could."""

from __future__ import annotations

import math

import pytest

from services.parity.worker.shard import ShardWork
from shared.client import ParityClient
from shared.contracts import Verdict
from shared.store import Store
from tests.scripted_models import Body, text_of, wise_teacher
from tests.services.parity.collecting import Model, Spec, rows_of

EVERYTHING = {"confidence": True, "reasoning": True, "top_k": 3}
pytestmark = pytest.mark.usefixtures("tasks_with_reasons")


def explaining_teacher(body: Body) -> list[str]:
    asked = text_of(body)
    return [f"the number {asked.split()[-1]} is written there"] if asked.startswith("why") else wise_teacher(body)


def score(question: str, answer: str) -> float:
    return -3.0 if question.startswith("why") else -1.5


async def test_kept_pairs_have_all_that_was_asked_for_and_others_nothing(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Model, student: Model
) -> None:
    teacher[0].script, student[0].scores = explaining_teacher, score
    rows = await rows_of(api, work, store, spec(discrepancies=EVERYTHING))
    kept = [row for row in rows if row["verdict"] == Verdict.DISPARITY]
    assert 0 < len(kept) < len(rows)
    for row in kept:
        assert row["rationale"] == f"the number {row['teacher_answer']} is written there"
        assert (row["gap_logprob"], row["student_rationale_logprob"]) == (-1.5, -3.0)
        assert (row["teacher_logprob"], row["teacher_rationale_logprob"]) == (-0.5, -0.5)
        assert row["confidence_gap"] == pytest.approx(math.exp(-0.5) - math.exp(-1.5), abs=1e-6)
        assert row["reasoning_gap"] == pytest.approx(1 - math.exp(-2.5), abs=1e-6)
        assert row["attention_gap"] is None
        assert [one["token"] for one in row["teacher_top"][0]] == [row["teacher_answer"], "other-0", "other-1"]
    for row in rows:
        if row["verdict"] != Verdict.DISPARITY:
            assert {row[name] for name in ("rationale", "gap_logprob", "confidence_gap", "teacher_top")} == {None}
    why = [body for body in teacher[0].requests if text_of(body).startswith("why")]
    assert len(why) == len(kept)


async def test_the_tokens_of_a_rationale_are_counted(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Model, student: Model
) -> None:
    teacher[0].script, student[0].scores = explaining_teacher, score
    plain = await rows_of(api, work, store, spec())
    explained = await rows_of(api, work, store, spec(discrepancies=EVERYTHING))
    kept = sum(row["verdict"] == Verdict.DISPARITY for row in plain)
    assert sum(r["prompt_tokens"] for r in explained) - sum(r["prompt_tokens"] for r in plain) == 10 * kept
    spent = sum(r["completion_tokens"] for r in explained) - sum(r["completion_tokens"] for r in plain)
    assert spent == 6 * kept


async def test_what_is_switched_off_is_not_asked_for(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Model, student: Model
) -> None:
    student[0].scores = score
    rows = await rows_of(api, work, store, spec(discrepancies={"confidence": False}))
    assert {row["gap_logprob"] for row in rows} == {row["rationale"] for row in rows} == {None}
    assert not [body for body in teacher[0].requests if body.get("top_logprobs") or text_of(body).startswith("why")]


async def test_a_student_without_scores_costs_the_pairs_their_gaps_and_not_the_job(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Model, student: Model
) -> None:
    teacher[0].script = explaining_teacher
    kept = [
        row
        for row in await rows_of(api, work, store, spec(discrepancies=EVERYTHING))
        if row["verdict"] == Verdict.DISPARITY
    ]
    assert kept
    assert {row["gap_logprob"] for row in kept} == {row["reasoning_gap"] for row in kept} == {None}
    assert all(row["rationale"] for row in kept)


async def test_the_status_shows_how_discrepancies_are_spread(
    api: ParityClient, work: ShardWork, spec: Spec, teacher: Model, student: Model
) -> None:
    teacher[0].script, student[0].scores = explaining_teacher, score
    job = await api.submit(spec(discrepancies=EVERYTHING))
    for shard in range(4):
        await work.run(job.id, shard)
    status = await api.job(job.id)
    kept = status.verdicts[Verdict.DISPARITY]
    assert list(status.discrepancies) == ["confidence", "reasoning"]
    found = status.discrepancies["confidence"]
    assert (found.count, sum(found.tenths), found.tenths[3]) == (kept, kept, kept)
    assert found.mean == pytest.approx(math.exp(-0.5) - math.exp(-1.5), abs=1e-3)


async def test_a_loss_switches_on_what_it_needs(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Model, student: Model
) -> None:
    teacher[0].script, student[0].scores = explaining_teacher, score
    loss = {"preset": "replay", "rationale": 0.5, "consistency": 0.3}
    rows = await rows_of(api, work, store, spec(train={"loss": loss}))
    kept = [row for row in rows if row["verdict"] == Verdict.DISPARITY]
    assert kept and all(row["rationale"] and row["teacher_top"] for row in kept)
