"""``python -m tests.faults.storm.soak``: a large job for a long time, with faults, while memory and files are counted.

One API and one worker are never killed, so that what they leak adds up; the other ones die again and again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import psutil
import redis

from shared.client import ParityClient
from shared.contracts import JobState
from shared.errors import MPAError
from shared.sets import shard_numbers
from tests.faults.storm import kinds
from tests.faults.storm.kinds import Fault
from tests.faults.storm.world import World

EVERY = 10.0
CALL_SECONDS = 0.01
SHARD_SIZE = 50
KEPT = "api-0", "worker-0"
HARMLESS: list[Fault] = [
    kinds.flush_redis,
    kinds.fill_redis,
    kinds.demote_redis,
    kinds.cut_redis,
    kinds.silence_redis,
    kinds.kill_redis,
    kinds.lose_messages,
    kinds.double_messages,
    kinds.cut_models,
    kinds.silence_models,
    kinds.spoil_models,
    kinds.kill_models,
]
"""Faults that leave the counted processes alive."""


@dataclass(frozen=True)
class Sample:
    """One look. Memory in MiB; ``memory``, ``files`` and ``threads`` by process, files being open descriptors."""

    second: float
    shards: int
    memory: dict[str, float]
    files: dict[str, int]
    threads: dict[str, int]
    redis_memory: float
    redis_keys: int
    temporaries: int
    processes: int


async def kill_the_others(world: World, random: Random) -> None:
    """The second API and the second worker die with -9."""
    for name in ("api-1", "worker-1"):
        world.programs[name].send(signal.SIGKILL)


async def soak(folder: Path, images: int, seconds: float, seed: int) -> list[Sample]:
    """The samples, until all images are done or the time is over."""
    random, samples = Random(seed), list[Sample]()
    with World(folder, images=images, call=CALL_SECONDS) as world:
        job_id = await submit(world)
        total = -(-images // SHARD_SIZE)
        weather = asyncio.create_task(storms(world, random))
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            await asyncio.sleep(EVERY)
            done = len(await asyncio.to_thread(shard_numbers, world.store, job_id))
            samples.append(await asyncio.to_thread(look, world, time.monotonic() - started, done))
            say(json.dumps(asdict(samples[-1])))
            if done == total:
                break
        weather.cancel()
        await asyncio.to_thread(world.heal)
        await asyncio.sleep(2 * EVERY)
        samples.append(await asyncio.to_thread(look, world, time.monotonic() - started, done))
        say(f"{done} of {total} shards are done; the job is {await state_of(world, job_id)}")
    return samples


async def storms(world: World, random: Random) -> None:
    """A fault, a pause, and so on."""
    while True:
        await asyncio.sleep(random.uniform(5, 20))
        fault = random.choice([*HARMLESS, kill_the_others, kill_the_others])
        say(f"fault: {fault.__name__}")
        await fault(world, random)


async def submit(world: World) -> str:
    spec = {
        "images": {"kind": "folder", "path": str(world.pile)},
        "tasks": ["chart"],
        "identifier": {"votes": 3, "threshold": 0.6},
        "shard_size": SHARD_SIZE,
        "seed": 3,
    }
    async with ParityClient(world.api_urls[0]) as api:
        return (await api.submit(spec)).id


async def state_of(world: World, job_id: str) -> JobState | str:
    try:
        async with ParityClient(world.api_urls[0]) as api:
            return (await api.job(job_id)).state
    except MPAError as error:
        return error.detail


def look(world: World, second: float, shards: int) -> Sample:
    """Count now. Blocks."""
    found = {}
    for name in KEPT:
        process = world.programs[name].process
        with suppress(psutil.Error):
            found[name] = psutil.Process(process.pid if process else None)
    memory, keys = 0.0, 0
    with suppress(redis.RedisError), world.redis_client() as client:
        memory, keys = client.info("memory")["used_memory"] / 2**20, client.dbsize()
    temporaries = [path for path in world.folder.rglob("*") if ".tmp" in path.name or path.name.startswith(".")]
    children = psutil.Process().children(recursive=True)
    return Sample(
        round(second, 1),
        shards,
        {name: round(process.memory_info().rss / 2**20, 1) for name, process in found.items()},
        {name: process.num_fds() for name, process in found.items()},
        {name: process.num_threads() for name, process in found.items()},
        round(memory, 2),
        keys,
        len(temporaries),
        len(children),
    )


def summarise(samples: Sequence[Sample]) -> str:
    """A table of medians: in the second quarter of the time (all is warm), in the last, and at rest at the end."""
    quarter = max(1, len(samples) // 4)
    parts = samples[quarter : 2 * quarter], samples[-quarter - 1 : -1], samples[-1:]
    lines = ["| | second quarter | last quarter | at the end |", "| --- | --- | --- | --- |"]

    def row(name: str, value: Callable[[Sample], float]) -> None:
        lines.append(f"| {name} | " + " | ".join(f"{statistics.median(map(value, part)):g}" for part in parts) + " |")

    for process in KEPT:
        row(f"{process}: memory (MiB)", lambda sample, process=process: sample.memory.get(process, 0))  # type: ignore[misc]
        row(f"{process}: open files", lambda sample, process=process: sample.files.get(process, 0))  # type: ignore[misc]
        row(f"{process}: threads", lambda sample, process=process: sample.threads.get(process, 0))  # type: ignore[misc]
    row("Redis: memory (MiB)", lambda sample: sample.redis_memory)
    row("Redis: keys", lambda sample: sample.redis_keys)
    row("temporary files", lambda sample: sample.temporaries)
    row("processes", lambda sample: sample.processes)
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="mpa-soak-"))
    samples = asyncio.run(soak(folder, given.images, given.minutes * 60, given.seed))
    say(summarise(samples))
    say(f"logs: {folder}")
    sys.exit(not samples)


if __name__ == "__main__":
    main()
