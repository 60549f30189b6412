"""``torchrun … -m services.trainer.nodes JOB``: the training of one job by processes on several machines.

torchrun starts one of these for each process of the training. The first is the trainer: it waits until the job is to
be trained, leases it and takes it to its end, as a worker would; the others start their share of every training that
it starts. All of them need the same store, a folder that every machine has mounted at the same place.
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
from shared.settings import TrainerSettings, read_settings
from shared.state import JobStore
from shared.state.leases import new_owner
from shared.store import Store
from shared.telemetry import setup_logging

log = logging.getLogger(__name__)

ASK_EVERY = 2.0
SUCCEEDED, REFUSED, FAILED, STOPPED = 0, 2, 5, 143


def check_nodes(settings: TrainerSettings) -> None:
    """Raises InvalidInput where several machines could not train together."""
    if settings.train_accelerate_config is not None:
        raise InvalidInput("MPA_TRAIN_ACCELERATE_CONFIG starts processes on one machine: leave it out, torchrun does.")
    if Store(settings.store_url).local_path("training") is None:
        raise InvalidInput(
            f"MPA_STORE is {settings.store_url}, but several machines train in one folder: use a file:// store that "
            "all of them mount."
        )


def main(arguments: Sequence[str]) -> int:
    """0: the job succeeded; 2: it cannot be done so; 5: it did not; 143: told to stop, and given back. The others end
    as the first one does.
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
        log.error("The first process is gone, or did not come: %s", error, extra={"job_id": job_id})
        return FAILED


async def _lead(settings: TrainerSettings, job_id: str, together: Together) -> int:
    task = asyncio.create_task(_train(settings, job_id, together))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        code = await task
    except asyncio.CancelledError:
        # torchrun ends the others too, and starts all of us again when there is a machine in the place of a lost one
        return STOPPED
    await asyncio.to_thread(together.over, code)
    return code


async def _train(settings: TrainerSettings, job_id: str, together: Together) -> int:
    """Do what there is to do for the job, again and again (it may wait for its shards, or for another round's), until
    it is over.
    """
    store = Store(settings.store_url, settings.data_dir.absolute() / "cache")
    owner, jobs = new_owner(), JobStore.from_url(settings.redis_url)
    try:
        while not (status := await jobs.get(job_id)).state.is_final:
            await TrainingFlow(settings, store, jobs, owner, together=together).run(job_id)
            await asyncio.sleep(ASK_EVERY)
    finally:
        await jobs.aclose()
    log.info("%s: %s", status.state, status.reason or status.last_error, extra={"job_id": job_id})
    return SUCCEEDED if status.state == JobState.SUCCEEDED else FAILED
