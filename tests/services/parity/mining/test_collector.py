"""The funnel: every slot ends in a row with a verdict, adds up, and is the same every time."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from services.parity.endpoints.limiter import Limiter
from services.parity.worker.shard import ShardWork
from shared.contracts import ChatRequest, JobState, Split, Verdict
from shared.sets import read_set, set_digest
from shared.store import Store
from tests.polling import async_wait_until
from tests.scripted_models import Body, image_of, text_of, wise_teacher
from tests.services.parity.collecting import Model, Spec, Submit, collect


async def test_every_slot_ends_in_a_row_and_runs_agree(
    work: ShardWork, store: Store, submit: Submit, spec: Spec
) -> None:
    first, second = (
        await submit(spec(tasks=["chart", "text"])),
        await submit(spec(tasks=["chart", "text"], shard_size=7)),
    )
    await collect(work, first)
    await collect(work, second)
    rows = read_set(store, first).to_pylist()
    assert len(rows) == 20 * 2 * 2
    assert [r["pair_id"] for r in rows] == sorted(r["pair_id"] for r in rows)
    assert set_digest(store, first) == set_digest(store, second)
    status = await work.jobs.get(first)
    assert Counter(r["verdict"] for r in rows) == {k: v for k, v in status.verdicts.items() if v}
    assert status.teacher_tokens.prompt == sum(r["prompt_tokens"] for r in rows) > 0
    assert status.teacher_tokens.saved > 0
    assert status.state is JobState.TRAINING
    for row in rows:
        kept = row["verdict"] == Verdict.DISPARITY
        if kept:
            assert row["vote_share"] >= 0.6
            assert row["student_answer"] != row["teacher_answer"]
            assert (row["student_version"], row["teacher_logprob"]) == ("base", -0.5)
        if row["verdict"] == Verdict.STUDENT_RIGHT:
            assert row["votes"] == []
    assert {r["verdict"] for r in rows} >= {Verdict.DISPARITY, Verdict.STUDENT_RIGHT}
    assert {r["split"] for r in rows} == {Split.TRAIN, Split.HELD_OUT}


@pytest.mark.parametrize("verify", ["disagreements", "all"])
async def test_after_a_shard_is_given_back_the_teacher_is_not_asked_again(
    work: ShardWork, submit: Submit, spec: Spec, teacher: Model, student: Model, verify: str
) -> None:
    teacher[0].delay = 0.05  # calls are in flight when the worker stops
    student[0].script = lambda body: ["5000"]
    shape = {"tasks": ["chart", "text"], "annotator": {"questions_per_image": 4}, "identifier": {"verify": verify}}
    running = asyncio.create_task(work.run(await submit(spec(**shape, shard_size=1)), 0))
    await async_wait_until(lambda: _asked(teacher, temperature=0))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    asked = len(teacher[0].requests)
    request = ChatRequest.model_validate(teacher[0].requests[0])
    for _ in range(5):  # as long as five more steps of the pairs would take
        await work.models.teacher.chat(request)
    assert len(teacher[0].requests) == asked + 5


async def test_spent_tokens_are_what_the_teacher_counted(
    work: ShardWork, submit: Submit, spec: Spec, teacher: Model
) -> None:
    job_id = await submit(spec())
    await collect(work, job_id)
    assert (await work.jobs.get(job_id)).teacher_tokens.prompt == 10 * len(teacher[0].requests)


async def test_one_shot_asks_once_for_question_and_answer(
    work: ShardWork, store: Store, submit: Submit, spec: Spec, teacher: Model
) -> None:
    def script(body: Body) -> list[str]:
        if text_of(body) == "ask and answer.":
            return [f"Question: what is {i}? Answer: {40 + i}" for i in range(body["n"])]
        return ["40"] * body.get("n", 1)

    teacher[0].script = script
    job_id = await submit(spec(annotator={"mode": "one_shot", "questions_per_image": 2}))
    await collect(work, job_id)
    rows = read_set(store, job_id).to_pylist()
    assert {(r["question"], r["teacher_answer"]) for r in rows} == {("what is 0?", "40"), ("what is 1?", "41")}
    inconsistent = [r for r in rows if r["teacher_answer"] == "41" and r["verdict"] == Verdict.TEACHER_INCONSISTENT]
    assert inconsistent
    assert "agrees with itself in 0%" in inconsistent[0]["reason"]
    assert not [body for body in teacher[0].requests if body["temperature"] == 0]


@pytest.mark.parametrize(
    ("said", "answer", "verdict"),
    [
        ("complete nonsense", "1", Verdict.UNPARSABLE),
        ("what is it?", "", Verdict.UNPARSABLE),
        ("what is it?", "unanswerable", Verdict.REFUSED),
    ],
)
async def test_what_a_bad_teacher_says_has_a_verdict(
    work: ShardWork,
    store: Store,
    submit: Submit,
    spec: Spec,
    teacher: Model,
    said: str,
    answer: str,
    verdict: Verdict,
) -> None:
    teacher[0].script = lambda body: [said if text_of(body).startswith("ask") else answer] * body.get("n", 1)
    job_id = await submit(spec())
    await collect(work, job_id)
    rows = read_set(store, job_id).to_pylist()
    assert {r["verdict"] for r in rows if r["slot"] == 0} == {verdict}
    assert all(r["reason"] for r in rows)
    second = verdict if said == "complete nonsense" else Verdict.DUPLICATE
    assert {r["verdict"] for r in rows if r["slot"] == 1} == {second}
    status = await work.jobs.get(job_id)
    assert (status.state, status.outcome) == (JobState.SUCCEEDED, "no_gap")


@pytest.mark.slow
async def test_begun_images_are_finished_before_others_begin(
    work: ShardWork, submit: Submit, spec: Spec, teacher: Model
) -> None:
    seen: list[str] = []

    def script(body: Body) -> list[str]:
        seen.append(image_of(body))
        return wise_teacher(body)

    teacher[0].script, teacher[0].delay = script, 0.01
    one_at_a_time = replace(work, models=replace(work.models, teacher_calls=Limiter("teacher", 1)))
    job_id = await submit(spec(tasks=["chart", "text"]))
    await collect(one_at_a_time, job_id)
    open_at_once = max(
        len({image for image in seen[: at + 1] if image in seen[at + 1 :]}) for at in range(len(seen) - 1)
    )
    # While one image waits for the student, another begins; without an order all would be begun before one is done.
    assert len(set(seen)) == 20
    assert open_at_once <= 6


async def test_the_first_call_about_an_image_goes_alone(
    work: ShardWork, submit: Submit, spec: Spec, teacher: Model
) -> None:
    asked_by_then: dict[str, int] = {}

    def script(body: Body) -> list[str]:
        image = image_of(body)  # called when the answer is given: what has been asked about this image so far?
        asked_by_then.setdefault(image, [image_of(b) for b in teacher[0].requests].count(image))
        return wise_teacher(body)

    teacher[0].script, teacher[0].delay = script, 0.02
    await collect(work, await submit(spec(tasks=["chart", "text"])))
    assert len(asked_by_then) == 20 and set(asked_by_then.values()) == {1}
    assert teacher[0].most_in_flight > 1


async def _asked(teacher: Model, temperature: float) -> bool:
    return any(body["temperature"] == temperature for body in teacher[0].requests)
