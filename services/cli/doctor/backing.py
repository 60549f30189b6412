"""Checks of Redis, the artifact store, the disks, and the workers that use them."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from services.cli.doctor.checks import broken, in_thread, ok, warning
from services.cli.doctor.clocks import Reading, skew
from shared.contracts import Finding, WorkerInfo
from shared.settings import CommonSettings
from shared.state.connection import open_async_redis
from shared.store import Store

LEAST_FREE = 2 * 1024**3
START_WORKER = {
    "parity": "`python -m services.parity.worker`, `docker compose up -d parity-worker`, or `kubectl get deploy "
    "parity-worker` (KEDA scales it)",
    "trainer": "`python -m services.trainer.worker`, `docker compose up -d trainer-worker`, or `kubectl get deploy "
    "trainer-worker` (KEDA scales it to zero while there is nothing to train)",
}


async def redis_findings(url: str, seconds: float) -> list[Finding]:
    """Whether Redis is reachable, persistent, never evicts, and has the right time."""
    async with open_async_redis(url, seconds) as client:
        before = time.time()
        at, micros = await client.time()
        clock = Reading(at + micros / 1e6, 1e-6, before, time.time())
        info: dict[str, Any] = await client.info()
    return [
        ok("redis", f"answers, version {info.get('redis_version', 'unknown')}"),
        persistence(info),
        _eviction(info),
        skew("redis' clock", clock.ahead),
    ]


def persistence(info: dict[str, Any]) -> Finding:
    """Whether Redis keeps its data over a restart, according to its INFO."""
    name = "redis' persistence"
    if not int(info.get("aof_enabled", 0)):
        return broken(
            name,
            "appendonly is off: a restart loses the queue and the records",
            "Start Redis with `--appendonly yes` on a volume. Jobs come back from the store, but not their progress.",
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        return broken(name, "the last write to the append-only file failed", "Free or repair the disk of Redis.")
    return ok(name, "appendonly is on")


def _eviction(info: dict[str, Any]) -> Finding:
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy != "noeviction":
        return broken(
            "redis' eviction",
            f"maxmemory-policy is {policy}: records would be evicted when memory runs out",
            "Set `maxmemory-policy noeviction`, and give Redis enough memory.",
        )
    return ok("redis' eviction", "noeviction")


async def store_findings(open_store: Callable[[], Store]) -> list[Finding]:
    """Write, read, create, list and delete a probe object."""
    store = await in_thread(open_store)
    return [await in_thread(lambda: _probe(store))]


def _probe(store: Store) -> Finding:
    folder, data = f"doctor/{secrets.token_hex(6)}", secrets.token_bytes(64)
    key, started = f"{folder}/probe", time.perf_counter()
    fix = "Give this user (and the services') the right to write, list and delete below MPA_STORE."
    try:
        store.write(key, data)
        if store.read(key) != data:
            return broken("store", f"{store.url} returned other bytes than were written", "Use another store.")
        if store.create(key, b"other") or store.read(key) != data:
            return broken(
                "store",
                f"{store.url} lets a second writer overwrite what must be written once",
                "Use a store with conditional writes (If-None-Match): promotions rely on them.",
            )
        listed = store.list(folder) == [key]
    finally:
        store.delete(folder)
    if store.exists(key):
        return broken("store", f"{store.url} still has an object after its deletion", fix)
    if not listed:
        return broken("store", f"{store.url} does not list what was written", "Use a store that lists consistently.")
    return ok("store", f"{store.url}: written, read, listed and deleted in {time.perf_counter() - started:.2f} s")


async def disk_findings(settings: CommonSettings, least: int = LEAST_FREE) -> list[Finding]:
    """Free space for the data folder and for a local store."""
    places = {"data folder": settings.data_dir.absolute()}
    parts = urlsplit(settings.store_url)
    if parts.scheme in ("", "file"):
        places["store"] = Path(unquote(parts.path))
    return [await in_thread(partial(_room, name, path, least)) for name, path in places.items()]


def _room(name: str, path: Path, least: int) -> Finding:
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    usage = shutil.disk_usage(existing)
    found = f"{path}: {usage.free / 1024**3:.1f} of {usage.total / 1024**3:.1f} GiB free"
    if usage.free < least:
        return broken(
            f"room in the {name}",
            found,
            "Free some space (old checkpoints, finished jobs, caches), or move it to a larger disk "
            f"({'MPA_DATA_DIR' if name == 'data folder' else 'MPA_STORE'}).",
        )
    return ok(f"room in the {name}", found)


def worker_findings(workers: Sequence[WorkerInfo], waiting: dict[str, int]) -> list[Finding]:
    """Whether a worker of each kind is alive. ``waiting``: messages in the queue of each kind."""
    return [_workers_of(kind, [w for w in workers if w.kind == kind], waiting[kind]) for kind in START_WORKER]


def _workers_of(kind: str, found: Sequence[WorkerInfo], waiting: int) -> Finding:
    name = f"{kind} workers"
    if found:
        hosts = ", ".join(sorted({worker.host for worker in found}))
        return ok(name, f"{len(found)} on {hosts}, {waiting} messages waiting")
    if kind == "trainer" and not waiting:
        return warning(
            name, "none is alive, and no message waits for one", f"Nothing if it is scaled to zero. {_start(kind)}"
        )
    return broken(name, f"none is alive; {waiting} messages waiting", _start(kind))


def _start(kind: str) -> str:
    return f"Start one: {START_WORKER[kind]}."
