"""A worker process for tests: it makes a file when a message's work begins and ends, and works until a file appears.

Arguments: the folder of these files, the number of threads, which connections are deaf (none, first or all), and the
seconds between two looks of the watchdog. A deaf connection takes no message, as if it had no free slots.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from shared.queue import COLLECT_QUEUE, COLLECT_TASK
from shared.queue.transport import FreeingChannel, FreeingQoS
from shared.queue.watchdog import Patience
from shared.queue.work_loop import Work
from shared.queue.worker import run_worker
from shared.settings import ParitySettings


@asynccontextmanager
async def open_recorder(folder: Path, *_: object) -> AsyncIterator[Work]:
    async def work(job_id: str, shard: int) -> None:
        (folder / f"{job_id}-{shard}.begun").touch()
        while not (folder / f"{job_id}.may-end").exists():
            await asyncio.sleep(0.02)
        (folder / f"{job_id}-{shard}.ended").touch()

    yield work


class DeafQoS(FreeingQoS):
    deaf = "first"
    first: FreeingQoS | None = None

    def can_consume(self) -> bool:
        DeafQoS.first = DeafQoS.first or self
        if DeafQoS.deaf == "all" or self is DeafQoS.first:
            return False
        return bool(super().can_consume())


def main() -> None:
    folder, threads, deaf, every = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
    if deaf != "none":
        DeafQoS.deaf = deaf
        FreeingChannel.QoS = DeafQoS
    run_worker(
        ParitySettings(),
        "parity",
        partial(open_recorder, folder),
        queue=COLLECT_QUEUE,
        task=COLLECT_TASK,
        ids=("job_id", "shard"),
        threads=threads,
        patience=Patience(every, looks=5, farewell=5.0),
    )


if __name__ == "__main__":
    main()
