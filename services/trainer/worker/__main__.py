"""``python -m services.trainer.worker``: a Celery worker that does one training at a time, each in a child process."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from typing import Any

from celery import Celery
from celery.signals import worker_shutting_down
from prometheus_client import CollectorRegistry

from services.trainer.launch.command import check_reporters, read_launch
from services.trainer.metrics import TrainerMetrics
from services.trainer.worker.flow import TrainingFlow
from services.trainer.worker.tasks import Runner, register
from shared.queue import TRAIN_QUEUE, make_celery, work_off
from shared.settings import TrainerSettings, read_settings
from shared.state import JobStore
from shared.state.presence import present
from shared.store import Store
from shared.telemetry import setup_logging
from shared.telemetry.metrics import make_registry, serve_metrics
from shared.telemetry.tracing import Traces, open_traces
from shared.vqa.tasks import load_profiles

log = logging.getLogger(__name__)


def make_worker(
    settings: TrainerSettings, registry: CollectorRegistry | None = None, traces: Traces | None = None
) -> tuple[Celery, Runner]:
    """The Celery app with its task, and what runs the trainings."""
    metrics = TrainerMetrics(registry or CollectorRegistry())
    app = make_celery(settings, "trainer")
    store = Store(settings.store_url, settings.data_dir.absolute() / "cache")
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"

    async def work(job_id: str) -> None:
        jobs = JobStore.from_url(settings.redis_url)
        try:
            await TrainingFlow(settings, store, jobs, owner, metrics).run(job_id)
        finally:
            await jobs.aclose()

    runner = Runner(work)
    register(app, runner, traces)
    return app, runner


def check_tasks(settings: TrainerSettings) -> None:
    """Raises InvalidInput where the task profiles cannot be read."""
    load_profiles(settings.tasks_file)


def check_reports(settings: TrainerSettings) -> None:
    """Raises InvalidInput where the curves of a training could go nowhere."""
    check_reporters(settings.train_report_to)


def check_processes(settings: TrainerSettings) -> None:
    """Raises InvalidInput where the processes of a training could not start."""
    if settings.train_accelerate_config is not None:
        read_launch(settings.train_accelerate_config)


def main() -> None:
    settings = read_settings(TrainerSettings, check_tasks, check_reports, check_processes)
    setup_logging("trainer-worker", settings)
    registry, traces = make_registry(), open_traces("trainer-worker", settings)
    app, runner = make_worker(settings, registry, traces)
    stop_metrics = serve_metrics(registry, settings.host, settings.metrics_port)

    def stop(**_: Any) -> None:
        runner.stop()

    worker_shutting_down.connect(stop, weak=False)
    log.info("Waiting for finished sets.")
    # One thread: the training itself is a child process, and the thread only watches it.
    try:
        with present(settings.redis_url, "trainer"):
            work_off(app, TRAIN_QUEUE, name="trainer", threads=1, log_level=settings.log_level)
    finally:
        stop_metrics()
        if traces is not None:
            traces.close()


if __name__ == "__main__":
    main()
