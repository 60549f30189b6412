"""One image, one trace: from POST /v1/jobs over a real Celery worker to the teacher's answer and the verdict; and what
the worker's metrics and log lines say of the same shard.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from fastapi import FastAPI

from services.parity.app import make_app
from shared.client import ParityClient
from shared.contracts import Health, JobState
from shared.http import create_app
from shared.settings import HttpSettings, ParitySettings
from tests.collector import Collector, SeenSpan, running_collector
from tests.polling import async_wait_until
from tests.quick_server import ServerThread
from tests.scripted_models import ScriptedModel, wise_teacher

Spec = Callable[..., dict[str, Any]]
METRICS = (
    "mpa_worker_pairs_total",
    "mpa_worker_teacher_tokens_total",
    "mpa_worker_shards_total",
    "mpa_worker_call_seconds_bucket",
    "mpa_worker_calls_limit",
    "process_resident_memory_bytes",
)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


@pytest.fixture
def traced_teacher(collector: Collector) -> Iterator[ServerThread]:
    """Scripted answers behind our own HTTP face, as the teacher service has it."""

    @asynccontextmanager
    async def nothing(app: FastAPI) -> AsyncIterator[None]:
        yield

    async def ready(app: FastAPI) -> Health:
        return Health(service="teacher", ready=True)

    settings = HttpSettings(otlp_endpoint=collector.url, trace_share=0.0)
    app = create_app("teacher", settings, lifespan=nothing, ready=ready, openai_errors=True)
    app.include_router(ScriptedModel(wise_teacher).app().router)
    server = ServerThread(app)
    yield server
    server.stop()


def worker_environment(settings: ParitySettings, folder: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "MPA_DATA_DIR": str(settings.data_dir),
        "MPA_STORE": settings.store_url,
        "MPA_REDIS_URL": settings.redis_url,
        "MPA_TEACHER_URL": settings.teacher_url,
        "MPA_STUDENT_URL": settings.student_url,
        "MPA_TASKS_FILE": str(settings.tasks_file),
        "MPA_IMAGE_ROOTS": f'["{folder}"]',
        "MPA_LOG_FORMAT": "json",
        **more,
    }


def start_worker(environment: dict[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "services.parity.worker"], env=environment, stderr=output)


@pytest.mark.slow
async def test_one_trace_follows_an_image_from_submit_to_verdict(
    settings: ParitySettings,
    spec: Spec,
    tmp_path: Path,
    collector: Collector,
    traced_teacher: ServerThread,
    free_port: int,
) -> None:
    traced = {"otlp_endpoint": collector.url, "trace_share": 0.0, "teacher_url": traced_teacher.url}
    settings = settings.model_copy(update=traced)
    more = {"MPA_OTLP_ENDPOINT": collector.url, "MPA_TRACE_IMAGES": "2", "MPA_METRICS_PORT": str(free_port)}
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        worker = start_worker(worker_environment(settings, tmp_path, **more), output)
    api = ServerThread(make_app(settings))
    try:
        async with ParityClient(api.url) as client:
            job = await client.submit(spec())

            async def collected() -> bool:
                return (await client.job(job.id)).state is JobState.TRAINING

            await async_wait_until(collected, timeout=60.0)
        # A shard counts, and the reconciler looks, a moment after the job has gone on.
        shown = await told(f"http://127.0.0.1:{free_port}", 'mpa_worker_shards_total{result="done"} 4.0')
        await told(api.url, 'mpa_jobs{state="training"} 1.0', 'mpa_queue_messages{queue="collect"} 0.0')
    finally:
        worker.terminate()
        worker.wait(20)
        api.stop()
    traced_teacher.stop()

    (submit,) = collector.named("POST /v1/jobs")
    assert submit.parent == "" and submit.service == "mpa-parity"
    images = collector.named("image")
    assert {span.attributes["mpa.image"] for span in images} == {0, 10}, "two of the twenty images, evenly spread"
    pairs = collector.named("pair")
    assert len(pairs) == 4 and all(span.attributes["mpa.verdict"] for span in pairs)
    answers = [span for span in collector.named("POST /v1/chat/completions") if span.service == "mpa-teacher"]
    assert answers and all(names(collector, span)[-3:] == WAY for span in (*answers, *pairs))
    answered = [span for span in answers if "pair" in names(collector, span)]
    assert names(collector, answered[0]) == ["POST /v1/chat/completions"] * 2 + ["pair", *WAY]
    assert {span.trace for span in collector.spans} == {submit.trace}
    assert len(collector.named("parity.collect_shard")) == 4

    assert all(name in shown for name in METRICS)

    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    done = [line for line in lines if line["message"].startswith("Shard done")]
    assert {line["shard"] for line in done} == {0, 1, 2, 3}
    assert {(line["job_id"], line["trace_id"]) for line in done} == {(job.id, submit.trace)}


async def told(url: str, *lines: str) -> str:
    """The metrics at ``url`` once they say all of this."""
    text = ""

    async def said() -> bool:
        nonlocal text
        text = (await http.get(f"{url}/metrics")).text
        return all(line in text for line in lines)

    async with httpx.AsyncClient(timeout=10) as http:
        await async_wait_until(said, timeout=20.0)
    return text


WAY = ["image", "parity.collect_shard", "POST /v1/jobs"]


def names(collector: Collector, span: SeenSpan) -> list[str]:
    return [step.name for step in collector.way_up(span)]
