"""The kinds of faults. Each takes the world and a random generator, does its damage for a while, and mends it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import httpx
import redis

from shared.queue import COLLECT_QUEUE
from tests.faults.storm.models import BAD_REPLIES, HANG
from tests.faults.storm.world import LEASE, World
from tests.processes import descendants

Fault = Callable[[World, Random], Awaitable[None]]
SECONDS = 0.0, 10.0
"""How long a part stays away."""
FROZEN = 0.5 * LEASE, 1.8 * LEASE
LATE = "storm:late"


async def kill_redis(world: World, random: Random) -> None:
    world.programs["redis"].hold()
    await asyncio.sleep(random.uniform(*SECONDS))
    world.programs["redis"].let_go()


async def kill_and_wipe_redis(world: World, random: Random) -> None:
    world.programs["redis"].hold()
    world.wipe_redis()
    await asyncio.sleep(random.uniform(*SECONDS))
    world.programs["redis"].let_go()


async def freeze_redis(world: World, random: Random) -> None:
    await _freeze(world, "redis", random)


async def flush_redis(world: World, random: Random) -> None:
    _redis(world, "FLUSHALL")


async def fill_redis(world: World, random: Random) -> None:
    """No write fits into its memory."""
    _redis(world, "CONFIG", "SET", "maxmemory", "1")
    await asyncio.sleep(random.uniform(*SECONDS))
    _redis(world, "CONFIG", "SET", "maxmemory", "0")


async def demote_redis(world: World, random: Random) -> None:
    """It is a read-only replica, as after a failover."""
    _redis(world, "REPLICAOF", "127.0.0.1", "1")
    await asyncio.sleep(random.uniform(*SECONDS))
    _redis(world, "REPLICAOF", "NO", "ONE")


async def cut_redis(world: World, random: Random) -> None:
    world.to_redis.cut()
    await asyncio.sleep(random.uniform(*SECONDS))
    world.to_redis.mend()


async def silence_redis(world: World, random: Random) -> None:
    world.to_redis.silence()
    await asyncio.sleep(random.uniform(*SECONDS))
    world.to_redis.mend()


async def lose_messages(world: World, random: Random) -> None:
    _redis(world, "DEL", COLLECT_QUEUE, "unacked", "unacked_index")


async def double_messages(world: World, random: Random) -> None:
    with suppress(redis.RedisError), world.redis_client() as client:
        for message in client.lrange(COLLECT_QUEUE, 0, -1):
            client.lpush(COLLECT_QUEUE, message)


async def delay_messages(world: World, random: Random) -> None:
    with suppress(redis.RedisError), world.redis_client() as client:
        client.rename(COLLECT_QUEUE, LATE)
    await asyncio.sleep(random.uniform(*SECONDS))
    with suppress(redis.RedisError), world.redis_client() as client:
        for message in client.lrange(LATE, 0, -1):
            client.lpush(COLLECT_QUEUE, message)
        client.delete(LATE)


async def kill_worker(world: World, random: Random) -> None:
    random.choice(world.named("worker")).send(signal.SIGKILL)


async def kill_all_workers(world: World, random: Random) -> None:
    for worker in world.named("worker"):
        worker.send(signal.SIGKILL)


async def freeze_worker(world: World, random: Random) -> None:
    """Often for longer than its leases last."""
    await _freeze(world, random.choice(["worker-0", "worker-1"]), random)


async def roll_workers(world: World, random: Random) -> None:
    for worker in world.named("worker"):
        worker.send(signal.SIGTERM)
        await asyncio.sleep(random.uniform(0, 3))


async def kill_api(world: World, random: Random) -> None:
    random.choice(world.named("api")).send(signal.SIGKILL)


async def freeze_api(world: World, random: Random) -> None:
    await _freeze(world, random.choice(["api-0", "api-1"]), random)


async def roll_apis(world: World, random: Random) -> None:
    for api in world.named("api"):
        api.send(signal.SIGTERM)
        await asyncio.sleep(random.uniform(0, 3))


async def kill_models(world: World, random: Random) -> None:
    world.programs["models"].hold()
    await asyncio.sleep(random.uniform(*SECONDS))
    world.programs["models"].let_go()


async def freeze_models(world: World, random: Random) -> None:
    await _freeze(world, "models", random)


async def cut_models(world: World, random: Random) -> None:
    world.to_models.cut()
    await asyncio.sleep(random.uniform(*SECONDS))
    world.to_models.mend()


async def silence_models(world: World, random: Random) -> None:
    world.to_models.silence()
    await asyncio.sleep(random.uniform(*SECONDS))
    world.to_models.mend()


async def spoil_models(world: World, random: Random) -> None:
    """They answer, but with errors, pages, or half of what is due."""
    seconds = random.uniform(*SECONDS)
    bad = {"how": random.choice([*BAD_REPLIES, HANG]), "seconds": seconds}
    async with httpx.AsyncClient(timeout=2) as client:
        with suppress(httpx.HTTPError):
            await client.post(f"{world.models_url}/misbehave", json=bad)
            await asyncio.sleep(seconds)


async def fill_disk(world: World, random: Random) -> None:
    await asyncio.to_thread(_fill, world.filler)
    await asyncio.sleep(random.uniform(*SECONDS))
    with suppress(OSError):
        world.filler.unlink(missing_ok=True)


async def lock_disk(world: World, random: Random) -> None:
    """The disk of the store is read-only."""
    await asyncio.to_thread(world.remount, "ro")
    await asyncio.sleep(random.uniform(*SECONDS))
    await asyncio.to_thread(world.remount, "rw")


async def kill_trainer(world: World, random: Random) -> None:
    """The training's own process dies with it."""
    world.programs["trainer"].send(signal.SIGKILL)


async def kill_training(world: World, random: Random) -> None:
    """Only the training's own process, if there is one."""
    trainer = world.programs["trainer"].process
    for pid in descendants(trainer.pid) if trainer else []:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


async def freeze_trainer(world: World, random: Random) -> None:
    await _freeze(world, "trainer", random)


async def roll_trainer(world: World, random: Random) -> None:
    world.programs["trainer"].send(signal.SIGTERM)


async def kill_student(world: World, random: Random) -> None:
    """Perhaps inside a swap."""
    world.programs["student"].send(signal.SIGKILL)


async def freeze_student(world: World, random: Random) -> None:
    await _freeze(world, "student", random)


TRAINING_FAULTS: list[Fault] = [kill_trainer, kill_training, freeze_trainer, roll_trainer, kill_student, freeze_student]
DISK_FAULTS: list[Fault] = [fill_disk, lock_disk]
FAULTS: list[Fault] = [
    kill_redis,
    kill_and_wipe_redis,
    freeze_redis,
    flush_redis,
    fill_redis,
    demote_redis,
    cut_redis,
    silence_redis,
    lose_messages,
    double_messages,
    delay_messages,
    kill_worker,
    kill_all_workers,
    freeze_worker,
    roll_workers,
    kill_api,
    freeze_api,
    roll_apis,
    kill_models,
    freeze_models,
    cut_models,
    silence_models,
    spoil_models,
]


def faults_of(world: World) -> list[Fault]:
    """Those that can be made here: a disk can be filled only where one can be mounted.

    Where there is a trainer, its faults make up half of all.
    """
    mining = FAULTS + (DISK_FAULTS if world.small_disk else [])
    return mining + TRAINING_FAULTS * (len(mining) // len(TRAINING_FAULTS)) if world.training else mining


async def _freeze(world: World, name: str, random: Random) -> None:
    world.programs[name].send(signal.SIGSTOP)
    await asyncio.sleep(random.uniform(*FROZEN))
    world.programs[name].send(signal.SIGCONT)


def _redis(world: World, *command: str) -> None:
    with suppress(redis.RedisError), world.redis_client() as client:
        client.execute_command(*command)


def _fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(64 * 1024))
