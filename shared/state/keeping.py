"""Keeps a lease while its work is done: renews it in the background, and ends the work when the lease is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from redis.exceptions import RedisError

from shared.concurrency import end_loops
from shared.errors import LeaseLost, NotFound, Unavailable
from shared.state.records import Lease

RENEWALS = 4
"""Renewals within the time of one lease: three may fail before it is lost."""
SOONEST = 1.0
"""Changes are reported at most this often, in seconds."""
CANCEL_AGAIN = 15.0
"""Seconds that the work has for its clean-up before it is cancelled once more (see ``_Keeper``)."""

Renew = Callable[[], Awaitable[object]]


@asynccontextmanager
async def keep_lease(
    lease: Lease, ttl: float, renew: Renew, changed: asyncio.Event | None = None
) -> AsyncIterator[None]:
    """Call ``renew`` a few times within each ``ttl`` seconds, and soon after ``changed`` was set, until the block ends.

    The call that ends the lease (``complete``, ``finish``, ``release`` …) also ends the renewals. If the lease is lost,
    the block is cancelled and raises LeaseLost; this includes the case that Redis stays unreachable until the
    lease has expired. Any other error of ``renew`` ends the block in the same way.
    """
    body = asyncio.current_task()
    assert body is not None
    cancellations = body.cancelling()
    keeper = _Keeper(lease, ttl, renew, changed or asyncio.Event(), body)
    renewing = asyncio.create_task(keeper.run())
    try:
        yield
    except BaseException:
        await keeper.leave(renewing)
        if keeper.error is not None and body.cancelling() <= cancellations:
            raise keeper.error from None
        raise
    else:
        await keeper.leave(renewing)


class _Keeper:
    """Renews one lease for the task ``body``, and cancels that task with ``error`` set when renewing fails.

    One cancellation may not be enough: before Python 3.12 ``asyncio.wait_for``, which the Redis client writes with,
    swallows a cancellation that arrives just as the write finishes.
    """

    def __init__(
        self, lease: Lease, ttl: float, renew: Renew, changed: asyncio.Event, body: asyncio.Task[None]
    ) -> None:
        self.error: Exception | None = None
        self._lease, self._ttl, self._renew, self._changed, self._body = lease, ttl, renew, changed, body
        self._left = False
        self._cancelled = 0

    async def run(self) -> None:
        try:
            await self._keep()
        except Exception as error:
            while not self._over:
                self.error = error
                self._cancelled += 1
                self._body.cancel()
                await asyncio.sleep(CANCEL_AGAIN)

    async def leave(self, renewing: asyncio.Task[None]) -> None:
        """Stop renewing, and take back what cancelled the body."""
        self._left = True
        for _ in range(self._cancelled):
            self._body.uncancel()
        await end_loops({renewing})

    @property
    def _over(self) -> bool:
        return self._left or self._lease.ending.is_set()

    async def _keep(self) -> None:
        """Renew until the work is over. Raises LeaseLost."""
        time, pause = asyncio.get_running_loop().time, self._ttl / RENEWALS
        expires = time() + self._ttl
        while not self._over:
            begun = time()
            self._changed.clear()
            try:
                async with asyncio.timeout_at(expires):
                    await self._renew()
            except NotFound as error:
                raise LeaseLost(f"The lease was lost: {error.detail}") from error
            except (RedisError, OSError, Unavailable) as error:
                if time() >= expires:
                    what = f"the lease on job {self._lease.job_id} ran out"
                    raise LeaseLost(f"Redis cannot be reached, so {what}: {error!r}.") from error
                await asyncio.sleep(min(SOONEST, pause))
                continue
            expires = begun + self._ttl
            await asyncio.sleep(min(SOONEST, pause))
            # Not wait_for, which before Python 3.12 can swallow the cancellation that ends this loop.
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()
