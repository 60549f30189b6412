"""``torchrun … -m services.trainer.nodes JOB``: trains one job with processes on several machines.

torchrun starts one of these for each process of the training. The first one is the trainer: it waits until the job is
ready to be trained, leases it and runs it to its end, as a worker would. The others start their share of every training
that it starts. All of them need the same store, a folder that every machine mounts at the same place.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Sequence

from torch.distributed import DistError

from services.trainer.launch.rendezvous import Place, Together, take_part
from services.trainer.worker.__main__ import check_reports, check_tasks
from services.trainer.worker.flow import TrainingFlow
from shared.contracts import JobState
from shared.errors import InvalidInput, MPAError
from shared.processes.names import process_name
from shared.settings import TrainerSettings, read_settings
from shared.state import JobStore
from shared.store import Store
from shared.telemetry import setup_logging

log = logging.getLogger(__name__)

ASK_EVERY = 2.0
SUCCEEDED, REFUSED, FAILED, STOPPED = 0, 2, 5, 143


def check_nodes(settings: TrainerSettings) -> None:
    """Raises InvalidInput if several machines cannot train together with these settings."""
    if settings.train_accelerate_config is not None:
        raise InvalidInput(
            "MPA_TRAIN_ACCELERATE_CONFIG starts processes on one machine. Leave it out: torchrun starts them."
        )
    if Store(settings.store_url).local_path("training") is None:
        raise InvalidInput(
            f"MPA_STORE is {settings.store_url}, but several machines train in one folder: use a file:// store that "
            "all of them mount."
        )


def main(arguments: Sequence[str]) -> int:
    """0: the job succeeded; 2: it cannot be trained this way; 5: it failed; 143: stopped, and the lease given back.
    The others end with the code of the first process.
    """
    (job_id,) = arguments
    settings = read_settings(TrainerSettings, check_tasks, check_reports, check_nodes)
    setup_logging("trainer-node", settings)
    try:
        place = Place.taken_from(os.environ)
        if place.index > 0:
            return take_part(place)
        return asyncio.run(_lead(settings, job_id, Together(place)))
    except MPAError as error:
        log.error("%s", error.detail, extra={"job_id": job_id})
        return REFUSED
    except DistError as error:
        log.error("The first process has ended, or never started: %s", error, extra={"job_id": job_id})
        return FAILED


async def _lead(settings: TrainerSettings, job_id: str, together: Together) -> int:
    task = asyncio.create_task(_train(settings, job_id, together))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        code = await task
    except asyncio.CancelledError:
        # torchrun ends the others too, and starts all of us again once it has a machine to replace a lost one
        return STOPPED
    await asyncio.to_thread(together.over, code)
    return code


async def _train(settings: TrainerSettings, job_id: str, together: Together) -> int:
    """Work on the job until it is over. In between it may wait for its shards, or for those of another round."""
    store = Store(settings.store_url, settings.data_dir.absolute() / "cache")
    owner, jobs = process_name(), JobStore.from_url(settings.redis_url)
    try:
        while not (status := await jobs.get(job_id)).state.is_final:
            await TrainingFlow(settings, store, jobs, owner, together=together).run(job_id)
            await asyncio.sleep(ASK_EVERY)
    finally:
        await jobs.aclose()
    log.info("%s: %s", status.state, status.reason or status.last_error, extra={"job_id": job_id})
    return SUCCEEDED if status.state == JobState.SUCCEEDED else FAILED
