"""Mining again: other questions about the same images, and more of them where the student fails."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.parity.mining.question_plan import RoundPlan, questions_each
from services.parity.worker.shard import ShardWork
from shared.client import ParityClient
from shared.contracts import JobSpec, JobState, ManifestEntry, RoundReport, Split, TaskShare, Verdict
from shared.sets import read_set, shard_numbers
from shared.sets.rounds import read_rounds
from shared.store import Store
from shared.vqa.answers import normalise_question
from shared.vqa.builtin import BUILT_IN
from tests.scripted_models import Body, strong_student, text_of, weak_student
from tests.services.parity.collecting import SHARDS, TWO, Model, Spec, collect, train


async def test_a_second_round_asks_the_candidate_other_questions_about_the_same_images(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, student: Model
) -> None:
    job = await api.submit(spec(rounds=TWO))
    await work.run(job.id, SHARDS)  # a message of a round that has not begun
    assert shard_numbers(store, job.id) == []
    await collect(work, job.id)
    await train(work.jobs, work.store, job.id, goes_on=True)
    second = await api.job(job.id)
    assert (second.state, second.round, second.rounds) == (JobState.COLLECTING, 2, 2)
    assert (second.images.done, second.shards.done, second.pairs) == (0, 0, 40)
    await work.run(job.id, 0)  # a late message of the first round
    student[0].script = lambda body: (strong_student if "@job-1" in body["model"] else weak_student)(body)
    await collect(work, job.id, 2)
    done = await api.job(job.id)
    assert (done.state, done.images.done, done.shards.done, done.pairs) == (JobState.TRAINING, 20, 4, 80)
    rows = read_set(store, job.id).to_pylist()
    assert shard_numbers(store, job.id) == list(range(2 * SHARDS))
    assert Counter(row["round"] for row in rows) == {1: 40, 2: 40}
    assert len({row["pair_id"] for row in rows}) == 80
    assert Counter(row["verdict"] for row in rows) == {k: v for k, v in done.verdicts.items() if v}
    again = [row for row in rows if row["round"] == 2]
    assert {row["student_version"] for row in again if row["student_answer"]} == {"job-1"}
    assert {row["split"] for row in again} == {Split.TRAIN, Split.HELD_OUT}
    splits = {(row["image"], row["split"]) for row in rows}
    assert len(splits) == 20, "what is held out stays held out"
    assert not [row for row in again if row["verdict"] == Verdict.DISPARITY], "the candidate is never wrong"
    asked = {(row["image"], normalise_question(row["question"])) for row in rows if row["round"] == 1}
    for row in again:
        old = (row["image"], normalise_question(row["question"])) in asked
        assert old <= (row["verdict"] == Verdict.DUPLICATE)
    assert any("of round 1" in row["reason"] for row in again)
    (request,) = {(c["version"], c["share"], c["by"]) for c in student[0].canaries}
    assert request == ("job-1", 0.0, f"job {job.id}")
    await train(work.jobs, work.store, job.id, goes_on=False)
    report = await api.report(job.id)
    assert [past.round for past in report.status.past_rounds] == [1, 2]
    pairs = await api.pairs(job.id, limit=1000)
    assert len(pairs.pairs) == 80


@pytest.mark.slow
async def test_steering_asks_more_about_the_task_that_fails(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, student: Model, teacher: Model
) -> None:
    def fails_at_charts(body: Body) -> list[str]:
        return ["5000"] if "number 1" in text_of(body) or "number 2" in text_of(body) else strong_student(body)

    student[0].script = fails_at_charts
    steered = {**TWO, "steer": True}
    job = await api.submit(spec(rounds=steered, tasks=["chart", "text"], annotator={"questions_per_image": 3}))
    await collect(work, job.id)
    await train(work.jobs, work.store, job.id, goes_on=True)
    (report,) = read_rounds(store, job.id)
    worse, better = sorted(report.tasks, key=lambda task: -report.tasks[task].disparity / report.tasks[task].checked)
    await collect(work, job.id, 2)
    rows = read_set(store, job.id, rounds=[2]).to_pylist()
    asked = Counter(row["task"] for row in rows)
    assert asked[worse] > asked[better] >= 20
    assert abs(asked.total() - 2 * 3 * 20) <= 2
    assert (await api.job(job.id)).images.done == 20


TASKS = ["a", "b", "c"]
shares = st.dictionaries(
    st.sampled_from(TASKS),
    st.integers(0, 50).flatmap(lambda n: st.integers(0, n).map(lambda k: TaskShare(checked=n, disparity=k))),
)


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.sampled_from(TASKS), min_size=1, unique=True), min_size=1, max_size=40),
    st.integers(1, 8),
    shares,
)
def test_every_image_and_task_keeps_a_question_and_the_total_stays(
    tasks: list[list[str]], questions: int, rates: dict[str, TaskShare]
) -> None:
    entries = [ManifestEntry(index=i, image=f"{i}.png", tasks=names) for i, names in enumerate(tasks)]
    counts = questions_each(entries, questions, rates)
    pairs = sum(len(names) for names in tasks)
    assert len(counts) == pairs
    assert min(counts.values()) >= 1
    assert abs(sum(counts.values()) - questions * pairs) <= len(TASKS)


def test_an_example_is_given_where_the_prompt_has_a_place_for_it() -> None:
    base = JobSpec.model_validate({"images": {"kind": "folder", "path": "x"}, "tasks": ["chartqa"]})
    spec = base.model_copy(update={"rounds": base.rounds.model_copy(update={"max": 2, "steer": True})})
    failed = {"chartqa": ["how many {bars}?", "what is the sum?"]}
    last = RoundReport(round=1, student="base", pairs=1, verdicts={}, failed_questions=failed)
    plan = RoundPlan(spec, 2, last)
    chosen = {plan.for_image(0, f"image-{n}", "chartqa").example for n in range(20)}
    assert chosen == set(failed["chartqa"])
    assert plan.for_image(0, "image", "textvqa").example == ""
    assert replace(plan, spec=base).for_image(0, "image-1", "chartqa").example == "", "only where it is asked for"
    for profile in BUILT_IN:
        for as_json in (False, True):
            for prompt in (profile.ask_prompt, profile.ask_and_answer_prompt):
                plain, led = prompt(as_json=as_json), prompt(as_json=as_json, example=failed["chartqa"][0])
                assert "example" not in plain
                assert led.replace(' Ask something like: "how many {bars}?"', "") == plain != led


def test_later_rounds_have_seeds_of_their_own() -> None:
    spec = JobSpec.model_validate({"images": {"kind": "folder", "path": "x"}, "tasks": ["chartqa"], "seed": 7})
    assert RoundPlan(spec).seed == 7
    assert len({RoundPlan(spec, number).seed for number in range(1, 11)}) == 10
