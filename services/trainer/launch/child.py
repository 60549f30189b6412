"""Runs ``services.trainer.run`` as a child process, or several under a launcher, and watches it; none outlives the
call.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress

from services.trainer.launch.command import command
from services.trainer.launch.failures import crash_of
from services.trainer.run_config import Failure, RunConfig, load, save
from shared.errors import InvalidInput, MPAError, Unavailable
from shared.processes.output import Output

LOOK_EVERY = 0.2
END_PATIENCE = 5.0
STDERR = 2  # Celery replaces sys.stderr


async def run_phase(
    config: RunConfig, phase: str, watch: Callable[[], Awaitable[None]], environment: dict[str, str]
) -> None:
    """Run one phase to its end, calling ``watch`` a few times a second. Raises what the child reported, or
    TrainingCrashed.

    Whatever ends the call, an error of ``watch`` or a cancellation included, the child is gone afterwards.
    """
    path = config.folder / "run.json"
    await asyncio.to_thread(save, path, config)
    (config.folder / "failure.json").unlink(missing_ok=True)
    line = await asyncio.to_thread(command, config, phase, path)
    child, output = await asyncio.to_thread(_start, line, environment, config.threads)
    try:
        while child.poll() is None:
            await watch()
            await asyncio.sleep(LOOK_EVERY)
    finally:
        await asyncio.shield(asyncio.to_thread(_end, child, launched="accelerate.commands.launch" in line))
    if child.returncode != 0:
        await asyncio.to_thread(output.join, END_PATIENCE)
        raise _error_of(config, phase, child.returncode, output.last_lines())
    await watch()


def _start(line: list[str], environment: dict[str, str], threads: int) -> tuple[subprocess.Popen[bytes], Output]:
    """Standard input stays open as long as this process lives; the child, and what a launcher starts, ends when it
    closes. The child's standard error output is passed on to this process's.

    Signals to this process's group don't reach the child: stopping it is up to the caller, which counts no attempt
    for it.
    """
    child = subprocess.Popen(
        line,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, **thread_limits(threads), **environment},
    )
    assert child.stderr is not None
    return child, Output(child.stderr, _pass_on)


def _pass_on(line: bytes) -> None:
    with suppress(OSError):  # nobody reads this process's output any more
        os.write(STDERR, line)


def thread_limits(threads: int) -> dict[str, str]:
    """Idle OpenMP threads must sleep, not spin: on a busy machine spinning made steps several times slower."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _end(child: subprocess.Popen[bytes], launched: bool) -> None:
    """Kill it if it still runs: a training loses nothing but the steps since the last save.

    A launcher that is killed would leave its processes behind: close their input, and it ends with them.
    """
    if child.poll() is None and not launched:
        child.kill()
        child.wait(END_PATIENCE)
    if child.stdin is not None:
        child.stdin.close()
    if launched:
        try:
            child.wait(END_PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(END_PATIENCE)


def _error_of(config: RunConfig, phase: str, code: int, last_lines: list[str]) -> MPAError:
    failure = load(Failure, config.folder / "failure.json")
    if failure is not None:
        return InvalidInput(failure.detail) if failure.final else Unavailable(failure.detail)
    return crash_of(phase, code, last_lines)
