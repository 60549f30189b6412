"""Cancel and retry of a job of 10⁶ images (15,625 shards) beside 32 workers that heartbeat, on a real Redis.

    python -m benchmarks.state.cancel

The workers are in a process apart; each reports progress ten times a second, which is ten times as often as the real
ones may. A cancel is timed with its write to the store, and with the status that the API answers with. ``former`` is
how cancels were made before: one compare-and-set over the records of all shards. Target: both calls under 1 s.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry

from benchmarks.serving.report import report
from services.parity.components import Components, build
from shared.contracts import FolderSource, JobSpec, StoredSpec
from shared.errors import LeaseLost, Unavailable
from shared.settings import ParitySettings
from shared.state import JobStore, ShardResult
from shared.state.redis_hash import Change
from tests.embedded_redis import start_embedded_redis

EVERY = 0.1
LIMIT = 30.0


async def heartbeat(url: str, workers: int) -> None:
    """Work on the first shards of job ``j`` until the leases are lost."""
    jobs = JobStore.from_url(url)

    async def work(shard: int) -> None:
        lease = await jobs.shards.acquire("j", shard, f"w{shard}", 60, 99)
        assert lease is not None
        images = 0
        with suppress(LeaseLost):
            while True:
                images += 1
                await jobs.shards.heartbeat(lease, 60, ShardResult(images=images))
                await asyncio.sleep(EVERY)

    await asyncio.gather(*(work(shard) for shard in range(workers)))


async def former_cancel(jobs: JobStore, shards: int) -> None:
    names = ["state", "info", "training", *(f"shard:{index}" for index in range(shards))]
    await jobs._hash.update("j", names, lambda *_: Change(None, {"later": "x"}, visible=False))


async def timed(call: Callable[[], Awaitable[object]]) -> float:
    started = time.monotonic()
    async with asyncio.timeout(LIMIT):
        await call()
    return time.monotonic() - started


async def measure(url: str, folder: Path, images: int, workers: int) -> list[dict[str, object]]:
    parity = build(ParitySettings(data_dir=folder, redis_url=url), CollectorRegistry())
    spec = JobSpec(images=[FolderSource(path="/pile")], tasks=["chart"])
    shards = -(-images // spec.shard_size)
    stored = StoredSpec(job_id="j", created_at=datetime.now(UTC), spec=spec, images=images, shards=shards)
    parity.store.write("jobs/j/spec.json", stored.model_dump_json().encode())
    await parity.jobs.create(stored)
    for start in range(0, shards, 1000):
        await parity.jobs.shards.claim_due("j", list(range(start, min(shards, start + 1000))), 600, False, 5)
    command = [sys.executable, "-m", "benchmarks.state.cancel", "--heartbeat", url, "--workers", str(workers)]
    with subprocess.Popen(command) as process:  # noqa: ASYNC220 - it only starts one
        while sum(shard.held(time.time()) for shard in (await parity.jobs.snapshot("j")).shards.values()) < workers:
            await asyncio.sleep(0.2)
        rows: list[dict[str, object]] = [await former(parity, shards)]
        for name in ("cancel", "retry"):
            seconds = await timed(lambda name=name: getattr(parity, name)("j"))  # type: ignore[misc]
            rows.append(
                {"call": name, "seconds": seconds, "with the status": seconds + await timed(lambda: parity.status("j"))}
            )
        process.wait(60)
    await parity.jobs.aclose()
    return rows


async def former(parity: Components, shards: int) -> dict[str, object]:
    started = time.monotonic()
    try:
        await timed(lambda: former_cancel(parity.jobs, shards))
        ended = "done"
    except Unavailable:
        ended = "gave up"
    except TimeoutError:
        ended = "no answer"
    return {"call": f"cancel, former ({ended})", "seconds": time.monotonic() - started, "with the status": "-"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--heartbeat", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.heartbeat:
        asyncio.run(heartbeat(options.heartbeat, options.workers))
        return
    with tempfile.TemporaryDirectory() as folder:
        server = start_embedded_redis(Path(folder) / "redis")
        try:
            rows = asyncio.run(measure(server.url, Path(folder) / "data", options.images, options.workers))
        finally:
            server.stop()
    report("cancel", rows, f"{options.images} images, {options.workers} workers; target: both calls under 1 s")


if __name__ == "__main__":
    main()
