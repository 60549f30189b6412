"""``python -m services.trainer.worker``: a worker that does one training at a time, each in a child process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial

from celery import Celery
from prometheus_client import CollectorRegistry

from services.trainer.launch.command import check_reporters, read_launch
from services.trainer.metrics import TrainerMetrics
from services.trainer.worker.flow import TrainingFlow
from shared.processes.names import process_name
from shared.queue import TRAIN_QUEUE, TRAIN_TASK
from shared.queue.work_loop import Work
from shared.queue.worker import run_worker
from shared.settings import TrainerSettings, read_settings
from shared.state import JobStore
from shared.store import Store
from shared.vqa.tasks import load_profiles


@asynccontextmanager
async def open_worker(settings: TrainerSettings, _celery: Celery, registry: CollectorRegistry) -> AsyncIterator[Work]:
    """Yields the function that trains a job."""
    store = Store(settings.store_url, settings.data_dir.absolute() / "cache")
    async with aclosing(JobStore.from_url(settings.redis_url)) as jobs:
        yield TrainingFlow(settings, store, jobs, process_name(), TrainerMetrics(registry)).run


def check_tasks(settings: TrainerSettings) -> None:
    """Raises InvalidInput if the task profiles cannot be read."""
    load_profiles(settings.tasks_file)


def check_reports(settings: TrainerSettings) -> None:
    """Raises InvalidInput if the curves of a training could not be written anywhere."""
    check_reporters(settings.train_report_to)


def check_processes(settings: TrainerSettings) -> None:
    """Raises InvalidInput if the processes of a training could not start."""
    if settings.train_accelerate_config is not None:
        read_launch(settings.train_accelerate_config)


def main() -> None:
    settings = read_settings(TrainerSettings, check_tasks, check_reports, check_processes)
    # One thread, because the training itself is a child process.
    run_worker(
        settings,
        "trainer",
        partial(open_worker, settings),
        queue=TRAIN_QUEUE,
        task=TRAIN_TASK,
        ids=("job_id",),
        threads=1,
    )


if __name__ == "__main__":
    main()
