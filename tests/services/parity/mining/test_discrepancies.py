"""Discrepancies of kept pairs: measured as the spec asks, null where a model cannot say, refused where none could."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from services.parity.worker.shard import ShardWork
from shared.client import ParityClient
from shared.contracts import Verdict
from shared.errors import UpstreamError
from shared.sets import read_set
from shared.settings import ParitySettings
from shared.store import Store
from tests.quick_server import ServerThread
from tests.scripted_models import Body, ScriptedModel, text_of, wise_teacher

Spec = Callable[..., dict[str, Any]]
Server = tuple[ScriptedModel, ServerThread]
EVERYTHING = {"confidence": True, "reasoning": True, "top_k": 3}
EXPLAIN = ', explain: "why {question} {answer}", check: "is the answer to {question} {answer}?"}'


@pytest.fixture
def settings(settings: ParitySettings) -> ParitySettings:
    """The tasks can be explained, and the teacher knows why."""
    assert settings.tasks_file is not None
    text = settings.tasks_file.read_text()
    settings.tasks_file.write_text(text.replace('answer: "{question}"}', 'answer: "{question}"' + EXPLAIN))
    return settings


def explaining_teacher(body: Body) -> list[str]:
    asked = text_of(body)
    return [f"the number {asked.split()[-1]} is written there"] if asked.startswith("why") else wise_teacher(body)


def score(question: str, answer: str) -> float:
    return -3.0 if question.startswith("why") else -1.5


async def rows_of(api: ParityClient, work: ShardWork, store: Store, spec: dict[str, Any]) -> list[dict[str, Any]]:
    job = await api.submit(spec)
    await work.run(job.id, 0)
    rows: list[dict[str, Any]] = read_set(store, job.id).to_pylist()
    return rows


async def test_kept_pairs_have_all_that_was_asked_for_and_others_nothing(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Server, student: Server
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
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Server, student: Server
) -> None:
    teacher[0].script, student[0].scores = explaining_teacher, score
    plain = await rows_of(api, work, store, spec())
    explained = await rows_of(api, work, store, spec(discrepancies=EVERYTHING))
    kept = sum(row["verdict"] == Verdict.DISPARITY for row in plain)
    assert sum(r["prompt_tokens"] for r in explained) - sum(r["prompt_tokens"] for r in plain) == 10 * kept
    spent = sum(r["completion_tokens"] for r in explained) - sum(r["completion_tokens"] for r in plain)
    assert spent == 6 * kept


async def test_what_is_switched_off_is_not_asked_for(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Server, student: Server
) -> None:
    student[0].scores = score
    rows = await rows_of(api, work, store, spec(discrepancies={"confidence": False}))
    assert {row["gap_logprob"] for row in rows} == {row["rationale"] for row in rows} == {None}
    assert not [body for body in teacher[0].requests if body.get("top_logprobs") or text_of(body).startswith("why")]


async def test_a_student_without_scores_costs_the_pairs_their_gaps_and_not_the_job(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Server, student: Server
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
    api: ParityClient, work: ShardWork, spec: Spec, teacher: Server, student: Server
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
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Server, student: Server
) -> None:
    teacher[0].script, student[0].scores = explaining_teacher, score
    loss = {"preset": "replay", "rationale": 0.5, "consistency": 0.3}
    rows = await rows_of(api, work, store, spec(train={"loss": loss}))
    kept = [row for row in rows if row["verdict"] == Verdict.DISPARITY]
    assert all(row["rationale"] and row["teacher_top"] for row in kept)


async def test_top_k_needs_a_teacher_that_tells_log_probabilities(
    api: ParityClient, spec: Spec, teacher: Server
) -> None:
    by_tokens = {"train": {"loss": {"consistency": 0.3, "consistency_by": "top_k"}}}
    teacher[0].logprobs = False
    with pytest.raises(UpstreamError, match=r"sends none .*consistency_by 'candidates'.*preset 'replay'"):
        await api.submit(spec(**by_tokens))
    teacher[0].refusal = lambda body: "logprobs are not supported" if body.get("logprobs") else None
    with pytest.raises(UpstreamError, match="logprobs are not supported"):
        await api.submit(spec(**by_tokens))
    await api.submit(spec(train={"loss": {"consistency": 0.3, "consistency_by": "candidates"}}))
    teacher[0].refusal, teacher[0].logprobs = None, True
    await api.submit(spec(**by_tokens))
    teacher[1].stop()
    await api.submit(spec(**by_tokens, seed=9))  # one that is away is waited for, as ever


async def test_contradictions_between_loss_and_measures_are_refused(api: ParityClient, spec: Spec) -> None:
    with pytest.raises(UpstreamError, match=r"set discrepancies\.reasoning to true"):
        await api.submit(spec(train={"loss": {"rationale": 0.5}}, discrepancies={"reasoning": False}))


async def test_reasons_need_a_task_that_asks_for_them(api: ParityClient, spec: Spec, settings: ParitySettings) -> None:
    with pytest.raises(
        UpstreamError, match=r"none of the tasks okvqa-plain has the prompt it needs: add prompts\.explain"
    ):
        await api.submit(spec(tasks=["okvqa-plain"], discrepancies={"reasoning": True}))


@pytest.mark.parametrize(
    ("needs", "named"),
    [
        ({"identifier": {"min_confidence": 0.5}}, "identifier.min_confidence"),
        ({"train": {"loss": {"weigh_by": ["confidence"]}}}, "weigh_by confidence"),
        ({"train": {"loss": {"consistency": 0.3, "consistency_by": "top_k"}}}, "consistency_by top_k"),
    ],
)
async def test_one_shot_answers_have_no_probabilities_to_go_by(
    api: ParityClient, spec: Spec, needs: dict[str, Any], named: str
) -> None:
    with pytest.raises(UpstreamError, match=rf"{named} needs .* use mode two_step"):
        await api.submit(spec(**needs, annotator={"mode": "one_shot"}))
    await api.submit(spec(**needs))
    await api.submit(spec(annotator={"mode": "one_shot"}, train={"loss": {"preset": "discrepancy"}}))


@pytest.fixture(autouse=True)
def a_task_without_reasons(settings: ParitySettings) -> None:
    assert settings.tasks_file is not None
    prompts = '{ask: "ask", ask_and_answer: "ask and answer.", answer: "{question}"}'
    with settings.tasks_file.open("a") as file:
        file.write(f"  - {{name: okvqa-plain, metric: exact, prompts: {prompts}}}\n")


async def test_a_teacher_that_is_not_sure_is_not_asked_to_vote(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Server
) -> None:
    """The scripted teacher gives each token a probability of e^-0.5, which is 61 %."""
    identifier = {"votes": 3, "threshold": 0.6}
    kept = await rows_of(api, work, store, spec(identifier={**identifier, "min_confidence": 0.6}))
    assert any(row["verdict"] == Verdict.DISPARITY for row in kept)
    voted = len(teacher[0].requests)
    rows = await rows_of(api, work, store, spec(identifier={**identifier, "min_confidence": 0.62}))
    unsure = [row for row in rows if row["verdict"] == Verdict.TEACHER_INCONSISTENT]
    assert unsure and not any(row["verdict"] == Verdict.DISPARITY for row in rows)
    assert {row["reason"] for row in unsure} == {"The teacher gives its own answer 61%, less than 62%."}
    assert not [body for body in teacher[0].requests[voted:] if body.get("n") == 3 and body["temperature"] == 1.0]


async def test_an_answer_that_the_teacher_takes_back_is_not_kept(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Server
) -> None:
    identifier = {"votes": 3, "threshold": 0.6, "cross_check": True}

    def doubting(body: Body) -> list[str]:
        asked = text_of(body)
        if not asked.startswith("is the answer"):
            return wise_teacher(body)
        return ["Yes." if int(asked.rstrip("?").split()[-1]) % 2 else "no, it is not"]

    teacher[0].script = doubting
    job = await api.submit(spec(identifier=identifier))
    for shard in range(4):
        await work.run(job.id, shard)
    rows = read_set(store, job.id).to_pylist()
    kept = [row for row in rows if row["verdict"] == Verdict.DISPARITY]
    assert kept and all(int(row["teacher_answer"]) % 2 for row in kept)
    taken_back = [row for row in rows if row["reason"].startswith("Asked whether")]
    assert taken_back and all(row["verdict"] == Verdict.TEACHER_INCONSISTENT for row in taken_back)
    assert taken_back[0]["reason"].endswith("the teacher says 'no, it is not'.")
    with pytest.raises(UpstreamError, match="okvqa-plain has the prompt it needs"):
        await api.submit(spec(tasks=["okvqa-plain"], identifier=identifier))
