"""Compare-and-set on the Redis hash of one job: the only place that names the keys of jobs.

Keys: ``mpa:job:<id>`` (hash: spec, state, info, training, shard:<n>, version, updated), ``mpa:jobs`` (sorted set by
creation), ``mpa:active`` (set of jobs that the reconciler moves on), channel ``mpa:changed`` (messages
``<id> <version>``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from redis.asyncio import Redis

from shared.errors import NotFound, Unavailable

JOBS = "mpa:jobs"
ACTIVE = "mpa:active"
CHANNEL = "mpa:changed"
TRIES = 64

_COMMIT = """
local job, id, now, visible, active = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local at, expected = 6, tonumber(ARGV[5])
for _ = 1, expected do
  if (redis.call('HGET', job, ARGV[at]) or '') ~= ARGV[at + 1] then return 0 end
  at = at + 2
end
while at < #ARGV do
  redis.call('HSET', job, ARGV[at], ARGV[at + 1])
  at = at + 2
end
if active == '1' then redis.call('SADD', KEYS[2], id) end
if active == '0' then redis.call('SREM', KEYS[2], id) end
if visible == '0' then return 1 end
redis.call('HSET', job, 'updated', now)
local version = redis.call('HINCRBY', job, 'version', 1)
redis.call('PUBLISH', ARGV[#ARGV], id .. ' ' .. version)
return 1
"""
T = TypeVar("T")
Clock = Callable[[], float]
Fields = Mapping[str, str | None]


def job_key(job_id: str) -> str:
    return f"mpa:job:{job_id}"


@dataclass(frozen=True)
class Change(Generic[T]):
    """New values of fields (empty: nothing is written), and the result for the caller.

    ``active`` adds the job to the active set or removes it. An invisible change (a renewed lease) does not change the
    version and wakes no waiter.
    """

    result: T
    fields: Mapping[str, str] = field(default_factory=dict)
    visible: bool = True
    active: bool | None = None


class JobHash:
    """Reads and guarded writes of job hashes. Times come from the Redis server, or from ``clock`` if it is given."""

    def __init__(self, redis: Redis, clock: Clock | None = None) -> None:
        self.redis = redis
        self._clock = clock
        self._commit = redis.register_script(_COMMIT)

    async def now(self) -> float:
        if self._clock is not None:
            return self._clock()
        seconds, micros = await self.redis.time()
        return seconds + micros / 1e6

    async def read(self, job_id: str, names: Sequence[str]) -> tuple[dict[str, str | None], float]:
        """The named fields and the time, in one round trip."""
        pipe = self.redis.pipeline(transaction=False)
        pipe.hmget(job_key(job_id), list(names))
        pipe.time()
        values, (seconds, micros) = await pipe.execute()
        now = self._clock() if self._clock is not None else seconds + micros / 1e6
        return {name: _text(value) for name, value in zip(names, values, strict=True)}, now

    async def read_all(self, job_id: str) -> tuple[dict[str, str], float]:
        pipe = self.redis.pipeline(transaction=False)
        pipe.hgetall(job_key(job_id))
        pipe.time()
        values, (seconds, micros) = await pipe.execute()
        now = self._clock() if self._clock is not None else seconds + micros / 1e6
        return {str(_text(name)): str(_text(value)) for name, value in values.items()}, now

    async def update(
        self,
        job_id: str,
        names: Sequence[str],
        decide: Callable[[Fields, float], Change[T]],
        *,
        must_exist: bool = True,
    ) -> T:
        """Read ``names``, let ``decide`` choose the change, and write it if the fields still hold what was read.

        Otherwise starts over. Raises NotFound for an unknown job, Unavailable if others keep changing it first.
        """
        asked = list(dict.fromkeys((*names, "spec")))
        for _ in range(TRIES):
            values, now = await self.read(job_id, asked)
            if must_exist and values["spec"] is None:
                raise NotFound(f"There is no job {job_id}: list the known ones with GET /v1/jobs.")
            change = decide(values, now)
            if not change.fields and change.active is None:
                return change.result
            if await self._try(job_id, values, change, now):
                return change.result
        raise Unavailable(f"Job {job_id} is changing too fast: try again.", retry_after=1.0)

    async def _try(self, job_id: str, values: Fields, change: Change[Any], now: float) -> bool:
        active = {True: "1", False: "0", None: ""}[change.active]
        expected = [part for name, value in values.items() for part in (name, value or "")]
        new = [part for pair in change.fields.items() for part in pair]
        args = [job_id, repr(now), "1" if change.visible else "0", active, str(len(values)), *expected, *new, CHANNEL]
        done = await self._commit(keys=[job_key(job_id), ACTIVE], args=args)
        return bool(int(cast(int, done)))


def _text(value: bytes | str | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
