"""One shard: the funnel adds up, is the same every time, and bad images and bad answers end as rows with reasons."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from services.parity.reconciler import Reconciler, ReconcilerRules
from services.parity.shard_work import ShardWork
from services.parity.submission import Submitter
from services.parity.throttle import Throttle
from services.parity.worker import make_worker
from shared.contracts import JobSpec, JobState, Split, Verdict
from shared.queue import make_celery
from shared.sets import read_set, set_digest, shard_key, shard_numbers
from shared.settings import ParitySettings
from shared.state import JobStore
from shared.store import Store
from tests.polling import async_wait_until
from tests.scripted_models import Body, ScriptedModel, image_of, text_of, wise_teacher
from tests.services.parity.conftest import png
from tests.serving import ServerThread

Spec = Callable[..., dict[str, Any]]
Model = tuple[ScriptedModel, ServerThread]


async def no_check() -> None:
    """No job here asks for attention."""


async def no_check_of_rounds(spec: JobSpec) -> None:
    """No job here has several."""


@pytest.fixture
def submit(settings: ParitySettings, store: Store, jobs: JobStore, work: ShardWork) -> Callable[..., Any]:
    from services.parity.sources import SourceRules

    rules = SourceRules(settings.image_roots, False, 1000)
    submitter = Submitter(jobs, store, work.profiles, ["student"], rules, no_check, no_check, no_check_of_rounds)

    async def run(spec: dict[str, Any]) -> str:
        return (await submitter.submit(JobSpec.model_validate(spec)))[0]

    return run


async def collect(work: ShardWork, job_id: str) -> None:
    shards = (await work.jobs.snapshot(job_id)).stored.shards
    await asyncio.gather(*(work.run(job_id, shard) for shard in range(shards)))


async def test_every_slot_ends_in_a_row_and_runs_agree(
    work: ShardWork, store: Store, submit: Callable[..., Any], spec: Spec
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
        assert (row["vote_share"] is not None and row["vote_share"] >= 0.6) == kept or row["vote_share"] is not None
        if kept:
            assert row["student_answer"] != row["teacher_answer"]
            assert (row["student_version"], row["teacher_logprob"]) == ("base", -0.5)
        if row["verdict"] == Verdict.STUDENT_RIGHT:
            assert row["votes"] == []
    assert {r["split"] for r in rows} == {Split.TRAIN, Split.HELD_OUT}


async def test_spent_tokens_are_what_the_teacher_counted(
    work: ShardWork, submit: Callable[..., Any], spec: Spec, teacher: Model
) -> None:
    job_id = await submit(spec())
    await collect(work, job_id)
    assert (await work.jobs.get(job_id)).teacher_tokens.prompt == 10 * len(teacher[0].requests)


async def test_verifying_all_asks_about_every_answer(
    work: ShardWork, store: Store, submit: Callable[..., Any], spec: Spec
) -> None:
    job_id = await submit(spec(identifier={"verify": "all", "votes": 3, "threshold": 0.6}))
    await collect(work, job_id)
    rows = read_set(store, job_id, verdicts=[Verdict.STUDENT_RIGHT, Verdict.DISPARITY]).to_pylist()
    assert rows
    assert all(len(row["votes"]) == 3 and row["vote_share"] >= 0.6 for row in rows)
    assert (await work.jobs.get(job_id)).teacher_tokens.saved == 0


async def test_one_shot_asks_once_for_question_and_answer(
    work: ShardWork, store: Store, submit: Callable[..., Any], spec: Spec, teacher: Model
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
    submit: Callable[..., Any],
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


async def test_bad_images_end_with_reasons_and_the_job_goes_on(
    work: ShardWork, store: Store, submit: Callable[..., Any], spec: Spec, pile: Path, tmp_path: Path
) -> None:
    bad = {
        "broken.png": png(1)[:40],
        "zero.jpg": b"",
        "text.png": b"not an image",
        "tiny.png": png(1, (1, 1)),
        "bomb.png": _huge_header(),
        "cmyk.jpg": _encoded(Image.new("CMYK", (8, 8)), "JPEG"),
        "moving.gif": _animated(),
    }
    for name, data in bad.items():
        (pile / name).write_bytes(data)
    (tmp_path.parent / "outside.png").write_bytes(png(5))
    (pile / "link.png").symlink_to("/etc/hostname")
    (pile / "gone.png").symlink_to(pile / "nothing.png")
    job_id = await submit(spec())
    await collect(work, job_id)
    rows = read_set(store, job_id, verdicts=[Verdict.UNREADABLE_IMAGE]).to_pylist()
    reasons = {Path(row["image"]).name: row["reason"] for row in rows}
    assert reasons.keys() == {*bad, "link.png", "gone.png"}
    assert len(rows) == 2 * len(reasons)
    for name, words in {
        "zero.jpg": "0 bytes",
        "tiny.png": "too small",
        "bomb.png": "limit",
        "cmyk.jpg": "CMYK",
        "moving.gif": "animated",
        "link.png": "outside the allowed",
        "gone.png": "does not exist",
    }.items():
        assert words in reasons[name], reasons[name]
    assert (await work.jobs.get(job_id)).pairs == 2 * (20 + len(reasons))


async def test_the_shards_of_a_worker_share_the_limit_of_calls(
    settings: ParitySettings, jobs: JobStore, submit: Callable[..., Any], spec: Spec, teacher: Model, student: Model
) -> None:
    job_id = await submit(spec())
    teacher[0].delay = student[0].delay = 0.02
    _, runner = make_worker(settings.model_copy(update={"calls_in_flight": 3}))
    await asyncio.gather(*(asyncio.to_thread(runner.run, job_id, shard) for shard in range(4)))
    assert (await jobs.get(job_id)).state is JobState.TRAINING
    assert 1 < teacher[0].most_in_flight <= 3
    assert 1 < student[0].most_in_flight <= 3


@pytest.mark.slow
async def test_begun_images_are_finished_before_others_begin(
    work: ShardWork, submit: Callable[..., Any], spec: Spec, teacher: Model
) -> None:
    seen: list[str] = []

    def script(body: Body) -> list[str]:
        seen.append(image_of(body))
        return wise_teacher(body)

    teacher[0].script, teacher[0].delay = script, 0.01
    one_at_a_time = replace(work, models=replace(work.models, teacher_calls=Throttle("teacher", 1)))
    job_id = await submit(spec(tasks=["chart", "text"]))
    await collect(one_at_a_time, job_id)
    open_at_once = max(
        len({image for image in seen[: at + 1] if image in seen[at + 1 :]}) for at in range(len(seen) - 1)
    )
    # While one image waits for the student, another begins; without an order all would be begun before one is done.
    assert len(set(seen)) == 20
    assert open_at_once <= 6


async def test_the_first_call_about_an_image_goes_alone(
    work: ShardWork, submit: Callable[..., Any], spec: Spec, teacher: Model
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


async def test_a_done_shard_is_not_done_again(
    work: ShardWork, submit: Callable[..., Any], spec: Spec, teacher: Model, store: Store
) -> None:
    job_id = await submit(spec())
    await collect(work, job_id)
    asked, digest, status = len(teacher[0].requests), set_digest(store, job_id), await work.jobs.get(job_id)
    await collect(work, job_id)
    assert (len(teacher[0].requests), set_digest(store, job_id)) == (asked, digest)
    assert (await work.jobs.get(job_id)).pairs == status.pairs


async def test_a_published_file_is_taken_over(
    work: ShardWork, jobs: JobStore, submit: Callable[..., Any], spec: Spec, teacher: Model, store: Store
) -> None:
    first, second = await submit(spec()), await submit(spec())
    await collect(work, first)
    for shard in shard_numbers(store, first):
        store.create(shard_key(second, shard), store.read(shard_key(first, shard)))
    asked = len(teacher[0].requests)
    await collect(work, second)
    assert len(teacher[0].requests) == asked
    assert (await jobs.get(second)).verdicts == (await jobs.get(first)).verdicts


async def test_who_lost_the_lease_writes_nothing(
    work: ShardWork, jobs: JobStore, submit: Callable[..., Any], spec: Spec, teacher: Model, store: Store
) -> None:
    job_id = await submit(spec())
    teacher[0].delay = 0.3
    running = asyncio.create_task(work.run(job_id, 0))
    await async_wait_until(lambda: _true(len(teacher[0].requests) > 0))
    await jobs.cancel(job_id)
    async with asyncio.timeout(20):
        await running
    assert shard_numbers(store, job_id) == []
    assert (await jobs.get(job_id)).shards.done == 0


async def test_a_stopped_worker_gives_its_shard_back(
    work: ShardWork, jobs: JobStore, submit: Callable[..., Any], spec: Spec, teacher: Model
) -> None:
    job_id = await submit(spec())
    teacher[0].delay = 5.0
    running = asyncio.create_task(work.run(job_id, 0))
    await async_wait_until(lambda: _true(len(teacher[0].requests) > 0))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    shard = (await jobs.snapshot(job_id)).shard(0)
    assert (shard.status, shard.attempts) == ("pending", 0)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["teacher", "student"])
async def test_a_model_server_that_is_away_delays_the_job_and_says_so(
    work: ShardWork, jobs: JobStore, submit: Callable[..., Any], spec: Spec, teacher: Model, student: Model, which: str
) -> None:
    model, server = {"teacher": teacher, "student": student}[which]
    server.stop()
    job_id = await submit(spec())
    running = asyncio.create_task(collect(work, job_id))
    status = await async_wait_until(lambda: _waiting(jobs, job_id))
    assert status.startswith(f"{which} at {server.url}: ")
    back = ServerThread(model.app(), server.port)
    async with asyncio.timeout(40):
        await running
    done = await jobs.get(job_id)
    assert (done.state, done.waiting_for) == (JobState.TRAINING, None)
    assert all(shard.attempts == 1 for shard in (await jobs.snapshot(job_id)).round_shards().values())
    back.stop()


async def test_passing_failures_change_nothing(
    work: ShardWork, submit: Callable[..., Any], spec: Spec, teacher: Model, store: Store
) -> None:
    calm, disturbed = await submit(spec()), await submit(spec())
    await collect(work, calm)
    teacher[0].failures = [(429, {"Retry-After": "1"}), (503, {}), (500, {}), (502, {})] * 3
    await collect(work, disturbed)
    assert not teacher[0].failures
    assert set_digest(store, calm) == set_digest(store, disturbed)


async def test_a_server_that_refuses_everything_fails_the_shard_in_words(
    work: ShardWork, jobs: JobStore, submit: Callable[..., Any], spec: Spec, teacher: Model
) -> None:
    job_id = await submit(spec())
    teacher[0].failures = [(400, {})] * 1000
    for _ in range(3):
        await work.run(job_id, 0)
    status = await jobs.get(job_id)
    assert status.state is JobState.FAILED
    assert "refused every image" in (status.last_error or "")
    assert "scripted failure" in (status.last_error or "")


async def test_a_wrong_key_fails_the_shard_at_once(
    work: ShardWork, jobs: JobStore, submit: Callable[..., Any], spec: Spec, teacher: Model
) -> None:
    job_id = await submit(spec())
    teacher[0].failures = [(401, {})] * 1000
    await work.run(job_id, 0)
    status = await jobs.get(job_id)
    assert (status.state, status.shards.done) == (JobState.COLLECTING, 0)
    assert "401" in (status.last_error or "")


async def test_a_flushed_redis_is_rebuilt_from_the_store(
    work: ShardWork,
    jobs: JobStore,
    submit: Callable[..., Any],
    spec: Spec,
    store: Store,
    settings: ParitySettings,
    redis_url: str,
    teacher: Model,
) -> None:
    calm, job_id = await submit(spec()), await submit(spec())
    await collect(work, calm)
    await work.run(job_id, 0)
    await work.run(job_id, 2)
    await jobs._hash.redis.flushall()
    reconciler = Reconciler(jobs, store, make_celery(settings), ReconcilerRules(0.1, 6, 3, 3))
    await reconciler.round()
    status = await jobs.get(job_id)
    assert (status.state, status.shards.done) == (JobState.COLLECTING, 2)
    asked = len(teacher[0].requests)
    await collect(work, job_id)
    assert len(teacher[0].requests) > asked
    assert set_digest(store, job_id) == set_digest(store, calm)
    await reconciler.round()
    assert (await jobs.get(job_id)).state is JobState.TRAINING


def test_the_same_bytes_are_always_on_the_same_side() -> None:
    from services.parity.pictures import split_of

    sides = [split_of(str(n), 1, 0.25) for n in range(4000)]
    assert sides == [split_of(str(n), 1, 0.25) for n in range(4000)]
    assert sides != [split_of(str(n), 2, 0.25) for n in range(4000)]
    assert 0.22 < sides.count(Split.HELD_OUT) / 4000 < 0.28


async def _true(value: bool) -> bool:
    return value


async def _waiting(jobs: JobStore, job_id: str) -> str:
    return (await jobs.get(job_id)).waiting_for or ""


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _animated() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def _huge_header() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
