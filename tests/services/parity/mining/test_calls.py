"""How many calls are in flight, in which order, and what a server that fails does to a job."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from services.parity.endpoints.limiter import Limiter
from services.parity.worker.__main__ import open_worker
from services.parity.worker.shard import ShardWork
from shared.contracts import JobState
from shared.queue import make_celery
from shared.queue.work_loop import WorkLoop
from shared.sets import set_digest
from shared.settings import ParitySettings
from shared.state import JobStore
from shared.store import Store
from tests.polling import async_wait_until
from tests.quick_server import ServerThread
from tests.scripted_models import Body, image_of, wise_teacher
from tests.services.parity.collecting import Model, Spec, Submit, collect


async def test_the_shards_of_a_worker_share_the_limit_of_calls(
    settings: ParitySettings, jobs: JobStore, submit: Submit, spec: Spec, teacher: Model, student: Model
) -> None:
    job_id = await submit(spec())
    teacher[0].delay = student[0].delay = 0.02
    fewer = settings.model_copy(update={"calls_in_flight": 3})
    with WorkLoop(lambda: open_worker(fewer, make_celery(fewer), CollectorRegistry()), threads=4) as loop:
        await asyncio.gather(*(asyncio.to_thread(loop.run, job_id, shard) for shard in range(4)))
    assert (await jobs.get(job_id)).state is JobState.TRAINING
    assert 1 < teacher[0].most_in_flight <= 3
    assert 1 < student[0].most_in_flight <= 3


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


@pytest.mark.slow
@pytest.mark.parametrize("which", ["teacher", "student"])
async def test_a_model_server_that_is_away_delays_the_job_and_says_so(
    work: ShardWork, jobs: JobStore, submit: Submit, spec: Spec, teacher: Model, student: Model, which: str
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
    work: ShardWork, submit: Submit, spec: Spec, teacher: Model, store: Store
) -> None:
    calm, disturbed = await submit(spec()), await submit(spec())
    await collect(work, calm)
    teacher[0].failures = [(429, {"Retry-After": "1"}), (503, {}), (500, {}), (502, {})] * 3
    await collect(work, disturbed)
    assert not teacher[0].failures
    assert set_digest(store, calm) == set_digest(store, disturbed)


async def test_a_server_that_refuses_everything_fails_the_shard_in_words(
    work: ShardWork, jobs: JobStore, submit: Submit, spec: Spec, teacher: Model
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
    work: ShardWork, jobs: JobStore, submit: Submit, spec: Spec, teacher: Model
) -> None:
    job_id = await submit(spec())
    teacher[0].failures = [(401, {})] * 1000
    await work.run(job_id, 0)
    status = await jobs.get(job_id)
    assert (status.state, status.shards.done) == (JobState.COLLECTING, 0)
    assert "401" in (status.last_error or "")


async def _waiting(jobs: JobStore, job_id: str) -> str:
    return (await jobs.get(job_id)).waiting_for or ""
