"""Runs ``services.trainer.run`` as a child process, or several under a launcher, and watches it. No process outlives
the call.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping

from services.trainer.launch.command import command
from services.trainer.launch.failures import error_of
from services.trainer.run_config import Failure, RunConfig, load, save
from shared.processes.child import Child
from shared.processes.output import pass_on

LOOK_EVERY = 0.2


async def run_phase(
    config: RunConfig, phase: str, watch: Callable[[], Awaitable[None]], environment: dict[str, str]
) -> None:
    """Run one phase to its end, calling ``watch`` a few times a second. Raises what the child reported, or
    TrainingCrashed.

    Whatever ends the call, an error of ``watch`` or a cancellation included, the child is gone afterwards. A training
    loses nothing but the steps since the last save.
    """
    path = config.folder / "run.json"
    await asyncio.to_thread(save, path, config)
    (config.folder / "failure.json").unlink(missing_ok=True)
    line = await asyncio.to_thread(command, config, phase, path)
    child = await asyncio.to_thread(start_step, line, environment, config.threads)
    try:
        while child.running:
            await watch()
            await asyncio.sleep(LOOK_EVERY)
    finally:
        await asyncio.shield(child.stop(0.0))
    if child.exit_code:
        failure = load(Failure, config.folder / "failure.json")
        raise error_of(failure, phase, child.exit_code, child.last_lines())
    await watch()


def start_step(line: list[str], environment: Mapping[str, str], threads: int) -> Child:
    """Start a step of a training. Its output is passed on to this process's standard error output.

    The step, and every process that a launcher starts for it, ends when its standard input closes.
    """
    return Child(line, {**os.environ, **thread_limits(threads), **environment}, pass_on)


def thread_limits(threads: int) -> dict[str, str]:
    """Idle OpenMP threads must sleep, not spin: on a busy machine spinning made steps several times slower."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }
