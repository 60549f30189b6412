"""One job, one trace: from POST /v1/jobs over real workers, a training and its evaluation to the student's swap."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from redis import Redis

from services.parity.app import make_app
from services.student.app import build_app
from services.trainer.app import make_app as make_trainer
from shared.client import ParityClient
from shared.contracts import Health, JobState, JobStatus, Outcome
from shared.http import create_app
from shared.processes.ports import free_port
from shared.settings import HttpSettings, ParitySettings, StudentSettings, TrainerSettings
from tests.collector import Collector, SeenSpan, running_collector
from tests.deploy.test_monitoring import NAME, queries
from tests.embedded_redis import EmbeddedRedis
from tests.polling import async_wait_until, wait_until
from tests.quick_server import ServerThread
from tests.scripted_models import Body, ScriptedModel, text_of
from tests.services.trainer.small_set import COLOURS, picture
from tests.tiny_models import build_tiny_idefics3

pytestmark = pytest.mark.slow
TASKS = """
tasks:
  - name: colour
    metric: exact
    prompts: {ask: "ask about the colour.", ask_and_answer: "ask and answer.", answer: "{question}"}
    max_question_tokens: 16
    max_answer_tokens: 4
"""
JOB = "parity.collect_shard", "POST /v1/jobs"
TRAINING = "trainer.train_job", "POST /v1/jobs"


def sure_teacher(body: Body) -> list[str]:
    """One question, always the same answer: what a random model can learn in a few steps."""
    return ["what colour is it?" if text_of(body).startswith("ask") else "red"] * body.get("n", 1)


@dataclass(frozen=True)
class Seen:
    """What was told of the finished job."""

    job: JobStatus
    collector: Collector
    lines: list[str]
    """All that the two workers and the training's processes wrote."""
    metrics: dict[str, Metric]
    """What all services and workers showed together, by name."""

    def way(self, span: SeenSpan) -> tuple[str, ...]:
        """The names from a span up to the first of its trace."""
        return tuple(step.name for step in self.collector.way_up(span))

    def ways(self, name: str, service: str) -> set[tuple[str, ...]]:
        return {self.way(span) for span in self.collector.named(name) if span.service == f"mpa-{service}"}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, redis_server: EmbeddedRedis) -> Iterator[Seen]:
    tmp_path = tmp_path_factory.mktemp("one-trace")
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
    for number in range(16):
        picture(tmp_path / "pile", list(COLOURS)[number % 4], number)
    (tmp_path / "tasks.yaml").write_text(TASKS)
    labelled = {"image": "pile/0000-red.png", "task": "colour", "question": "what colour is it?", "answers": ["red"]}
    (tmp_path / "labelled.jsonl").write_text(json.dumps(labelled) + "\n")
    with running_collector() as collector, ExitStack() as running:
        common: dict[str, Any] = {
            "data_dir": tmp_path / "data",
            "store": (tmp_path / "store").as_uri(),
            "redis_url": redis_server.url,
            "otlp_endpoint": collector.url,
            "trace_share": 0.0,
            "log_format": "json",
        }

        def serve(app: FastAPI) -> str:
            server = ServerThread(app)
            running.callback(server.stop)
            return server.url

        student_model = str(build_tiny_idefics3(tmp_path / "tiny"))
        urls = {
            "teacher_url": serve(teacher(HttpSettings(otlp_endpoint=collector.url, trace_share=0.0))),
            "student_url": serve(build_app(StudentSettings(**common, student_model=student_model))),
        }
        shared = {**common, **urls, "tasks_file": tmp_path / "tasks.yaml"}
        parity = serve(make_app(ParitySettings(**shared, image_roots=[tmp_path], reconcile_every=0.5)))
        trainer = serve(make_trainer(TrainerSettings(**shared)))
        ports = free_port(), free_port()
        variables = {**shared, "image_roots": f'["{tmp_path}"]', "train_threads": 1, "train_report_to": "[]"}
        log = tmp_path / "trainer.log"
        worker(running, "services.parity.worker", {**variables, "metrics_port": ports[0]}, tmp_path / "parity.log")
        worker(running, "services.trainer.worker", {**variables, "metrics_port": ports[1]}, log)
        job = asyncio.run(finished(parity, spec(tmp_path)))
        assert httpx.get(f"{trainer}/v1/trainings/{job.id}", timeout=10).status_code == 200
        workers = [f"http://127.0.0.1:{port}" for port in ports]
        # A worker counts a moment after the job has gone on.
        for url, line in zip(
            workers, ('shards_total{result="done"} 2.0', 'trainings_total{result="done"} 1.0'), strict=True
        ):
            wait_until(lambda url=url, line=line: line in httpx.get(f"{url}/metrics", timeout=10).text)
        metrics = shown([parity, trainer, *urls.values(), *workers])
        running.close()
        lines = [line for file in (log, tmp_path / "parity.log") for line in file.read_text().splitlines()]
        yield Seen(job, collector, lines, metrics)


def teacher(settings: HttpSettings) -> FastAPI:
    """Scripted answers behind our own HTTP face, as the teacher service has it."""

    @asynccontextmanager
    async def nothing(app: FastAPI) -> AsyncIterator[None]:
        yield

    async def ready(app: FastAPI) -> Health:
        return Health(service="teacher", ready=True)

    app = create_app("teacher", settings, lifespan=nothing, ready=ready, openai_errors=True)
    app.include_router(ScriptedModel(sure_teacher).app().router)
    return app


def worker(running: ExitStack, module: str, variables: dict[str, Any], log: Path) -> None:
    environment = {**os.environ, **{f"MPA_{name.upper()}": str(value) for name, value in variables.items()}}
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", module], env=environment, stdout=output, stderr=output)

    def stop() -> None:
        process.terminate()
        process.wait(30)

    running.callback(stop)


def spec(folder: Path) -> dict[str, Any]:
    return {
        "images": {"kind": "folder", "path": str(folder / "pile")},
        "tasks": ["colour"],
        "annotator": {"questions_per_image": 1},
        "identifier": {"votes": 2, "threshold": 1.0},
        "gate": {"held_out_fraction": 0.3, "min_questions": 1},
        "train": {"max_steps": 30, "batch_size": 8, "learning_rate": 3e-3},
        "benchmark": str(folder / "labelled.jsonl"),
        "shard_size": 8,
    }


async def finished(parity: str, job_spec: dict[str, Any]) -> JobStatus:
    async with ParityClient(parity) as client:
        job = await client.submit(job_spec)

        async def over() -> bool:
            nonlocal job
            job = await client.job(job.id)
            return job.state.is_final

        await async_wait_until(over, timeout=200.0)
    return job


def shown(addresses: list[str]) -> dict[str, Metric]:
    """All metrics at these addresses; the same metric of several has the samples of all."""
    found: dict[str, Metric] = {}
    for address in addresses:
        for family in text_string_to_metric_families(httpx.get(f"{address}/metrics", timeout=10).text):
            if family.name in found:
                found[family.name].samples += family.samples
            else:
                found[family.name] = family
    return found


def test_one_trace_follows_a_job_from_submit_to_the_swap(seen: Seen) -> None:
    assert (seen.job.state, seen.job.outcome) == (JobState.SUCCEEDED, Outcome.PROMOTED), seen.job.last_error
    (submit,) = seen.collector.named("POST /v1/jobs")
    assert (submit.parent, submit.service) == ("", "mpa-parity")
    assert {span.trace for span in seen.collector.spans} == {submit.trace}
    assert not [span.name for span in seen.collector.spans if span.failed]

    assert seen.ways("parity.collect_shard", "parity-worker") == {JOB}
    assert seen.ways("trainer.train_job", "trainer-worker") == {TRAINING}
    for phase in ("train", "evaluate", "promote"):
        assert seen.ways(phase, "trainer-worker") == {(phase, *TRAINING)}
    for phase in ("train", "evaluate"):
        assert seen.ways(f"run {phase}", "trainer-run") == {(f"run {phase}", phase, *TRAINING)}
    asked = "POST /v1/chat/completions"
    evaluating = {way for way in seen.ways(asked, "teacher") if "evaluate" in way}
    assert evaluating == {(asked, asked, "run evaluate", "evaluate", *TRAINING)}
    put = "PUT /v1/checkpoints/active"
    assert seen.ways(put, "student") == {(put, put, "promote", *TRAINING)}
    assert seen.ways("swap", "student") == {("swap", put, put, "promote", *TRAINING)}
    (swap,) = seen.collector.named("swap")
    assert swap.attributes["mpa.checkpoint"] == seen.job.checkpoint == f"job-{seen.job.id}"


def test_every_line_is_json_and_says_what_it_is_about(seen: Seen) -> None:
    lines = [json.loads(line) for line in seen.lines]
    (submit,) = seen.collector.named("POST /v1/jobs")
    assert {line["service"] for line in lines} == {"parity-worker", "trainer-worker", "trainer-run"}
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    told = [line for line in lines if "job_id" in line]
    assert {line["service"] for line in told} == {"parity-worker", "trainer-worker", "trainer-run"}
    assert {(line["job_id"], line["trace_id"]) for line in told} == {(seen.job.id, submit.trace)}
    assert {line["shard"] for line in told if line["service"] == "parity-worker"} >= {0, 1}


# Of Prometheus itself, of a real vLLM, and of GPUs.
FOREIGN = re.compile(r"^(up|vllm:.*|mpa_gpu_memory_bytes)$")
IDLE = {"mpa_student_tap_samples_total"}
"""Shown only by a student whose tap is on."""


def test_what_alerts_and_dashboard_ask_for_is_shown_by_the_running_system(seen: Seen) -> None:
    names = set(seen.metrics)
    for family in seen.metrics.values():
        names |= {sample.name for sample in family.samples}
        names |= {f"{family.name}_total"} if family.type == "counter" else set()
    asked = {name for query in queries() for name in NAME.findall(query) if not FOREIGN.match(name)}
    assert asked - names - IDLE == set()
    empty = {name for name in asked - IDLE if not samples(seen.metrics, name)}
    assert not empty, "a series that a job from end to end leaves without a value tells an operator nothing"


def test_a_job_leaves_its_numbers(seen: Seen) -> None:
    total = {
        name: sum(sample.value for sample in samples(seen.metrics, name))
        for name in ("mpa_worker_pairs_total", "mpa_worker_images_total", "mpa_worker_teacher_tokens_total")
    }
    assert total["mpa_worker_pairs_total"] == seen.job.pairs == total["mpa_worker_images_total"] == 16
    ended = {s.labels["result"]: s.value for s in samples(seen.metrics, "mpa_trainings_total")}
    assert ended == {"done": 1, "failed": 0, "lease_lost": 0, "given_back": 0}
    swaps = {s.labels["result"]: s.value for s in samples(seen.metrics, "mpa_student_swap_seconds_count")}
    assert swaps == {"swapped": 1, "refused": 0, "failed": 0}
    phases = {s.labels["phase"] for s in samples(seen.metrics, "mpa_training_phase_seconds_count")}
    assert phases == {"train", "evaluate", "promote"}


def samples(metrics: dict[str, Metric], name: str) -> list[Sample]:
    return [sample for family in metrics.values() for sample in family.samples if sample.name == name]
