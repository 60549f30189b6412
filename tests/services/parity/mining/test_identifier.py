"""The verdict on an answered pair: votes, the teacher's confidence, and its second look at its own answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.parity.worker.shard import ShardWork
from shared.client import ParityClient
from shared.contracts import IdentifierSpec, Verdict
from shared.errors import UpstreamError
from shared.sets import read_set
from shared.store import Store
from shared.vqa.metrics import MetricName
from tests.scripted_models import Body, text_of, wise_teacher
from tests.services.parity.collecting import Model, Spec, Submit, collect, rows_of

pytestmark = pytest.mark.usefixtures("tasks_with_reasons")


async def test_verifying_all_asks_about_every_answer(work: ShardWork, store: Store, submit: Submit, spec: Spec) -> None:
    job_id = await submit(spec(identifier={"verify": "all", "votes": 3, "threshold": 0.6}))
    await collect(work, job_id)
    rows = read_set(store, job_id, verdicts=[Verdict.STUDENT_RIGHT, Verdict.DISPARITY]).to_pylist()
    assert rows
    assert all(len(row["votes"]) == 3 and row["vote_share"] >= 0.6 for row in rows)
    assert (await work.jobs.get(job_id)).teacher_tokens.saved == 0


async def test_a_teacher_that_is_not_sure_is_not_asked_to_vote(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Model
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


@pytest.mark.parametrize(
    ("metric", "votes", "student_says", "verdict"),
    [
        ("exact", ["cafe\u0301", "CAFÉ.", "the café"], "Cafe\u0301", Verdict.STUDENT_RIGHT),
        ("vqa", ["cafe\u0301", "CAFÉ.", "the café"], "tea", Verdict.DISPARITY),
        ("exact", ["tea", "milk", "café"], "tea", Verdict.TEACHER_INCONSISTENT),
        ("relaxed", ["1990", "1990", "1990"], "2015", Verdict.DISPARITY),
        ("relaxed", ["2015", "2014", "1991"], "2015", Verdict.TEACHER_INCONSISTENT),
        ("relaxed", ["1990", "1990", "1990"], "Nineteen ninety", Verdict.STUDENT_RIGHT),
        ("relaxed", ["151.5", "149", "150"], "99.5", Verdict.DISPARITY),
        ("relaxed", ["151.5", "149", "150"], "153 %", Verdict.STUDENT_RIGHT),
    ],
)
async def test_answers_are_compared_by_agreement_and_not_by_the_metric(
    api: ParityClient,
    work: ShardWork,
    store: Store,
    spec: Spec,
    teacher: Model,
    student: Model,
    metric: MetricName,
    votes: list[str],
    student_says: str,
    verdict: Verdict,
) -> None:
    profiles = {name: replace(profile, metric=metric) for name, profile in work.profiles.items()}
    work = replace(work, profiles=profiles)

    def teach(body: Body) -> list[str]:
        if text_of(body).startswith("ask"):
            return wise_teacher(body)
        return [votes[-1]] if body["temperature"] == 0 else votes

    teacher[0].script, student[0].script = teach, lambda _: [student_says]
    rows = await rows_of(api, work, store, spec(identifier={"votes": 3, "threshold": 0.6}))
    assert {row["verdict"] for row in rows} - {Verdict.DUPLICATE} == {verdict}


async def test_an_answer_that_the_teacher_takes_back_is_not_kept(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Model
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


def test_a_spec_without_the_field_keeps_its_digest() -> None:
    assert "refusal_check" not in IdentifierSpec().model_dump()
    assert IdentifierSpec(refusal_check=False).model_dump()["refusal_check"] is False
