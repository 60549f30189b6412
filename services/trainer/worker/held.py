"""The lease on a training while it is worked on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

from redis.exceptions import RedisError

from shared.concurrency import end_loops
from shared.contracts import TrainingProgress
from shared.errors import LeaseLost
from shared.state import JobStore, Lease


class HeldTraining:
    """The lease on a training, renewed in the background; losing it cancels the work."""

    def __init__(self, jobs: JobStore, lease: Lease, ttl: float) -> None:
        self._jobs, self._ttl = jobs, ttl
        self.lease = lease
        self.progress: TrainingProgress | None = None
        self._waiting_for: str | None = None
        self._changed = asyncio.Event()
        self._ending = False

    def report(self, progress: TrainingProgress) -> None:
        if progress != self.progress:
            self.progress = progress
            self._changed.set()

    async def wait_for(self, what: str | None) -> None:
        if what != self._waiting_for:
            self._waiting_for = what
            self._changed.set()

    def last_step(self) -> None:
        """No more renewals: the call that ends the job also ends the lease."""
        self._ending = True

    async def keep(self) -> None:
        """Renew until cancelled. Raises LeaseLost, also when Redis cannot be reached until the lease ran out."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while not self._ending:
            try:
                await self._jobs.trainings.heartbeat(self.lease, self._ttl, self.progress, self._waiting_for)
                renewed = loop.time()
            except (RedisError, OSError, TimeoutError) as error:
                if loop.time() - renewed > self._ttl:
                    raise LeaseLost(
                        f"Redis cannot be reached, so the lease on {self.lease.job_id} ran out: {error}."
                    ) from error
            await asyncio.sleep(min(1.0, self._ttl / 3))
            # not wait_for: on Python 3.11 it can swallow the cancellation that ends this loop
            with suppress(TimeoutError):
                async with asyncio.timeout(self._ttl / 3):
                    await self._changed.wait()
            self._changed.clear()


async def while_held(held: HeldTraining, work: Awaitable[None]) -> None:
    """Do ``work`` while the lease is renewed; the first to fail stops the other."""
    keeper, worker = asyncio.ensure_future(held.keep()), asyncio.ensure_future(work)
    try:
        await asyncio.wait({keeper, worker}, return_when=asyncio.FIRST_COMPLETED)
        if not worker.done():
            keeper.result()
        await worker
    finally:
        worker.cancel()
        await end_loops({keeper})
        await asyncio.gather(worker, return_exceptions=True)
