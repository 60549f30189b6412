"""Compare-and-set on the Redis hash of one job: the only place that names the keys of jobs.

Keys: ``mpa:job:<id>`` (hash: spec, state, info, run, training, shard:<n>, version, updated), ``mpa:jobs`` (sorted set
by creation), ``mpa:active`` (set of jobs that the reconciler moves on), ``mpa:damaged:<id>`` (a damaged record, for a
week), channel ``mpa:changed`` (messages ``<id> <version>``).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeVar, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from shared.compatibility import reading
from shared.errors import Damaged, NotFound, Unavailable

log = logging.getLogger(__name__)

JOBS = "mpa:jobs"
ACTIVE = "mpa:active"
CHANNEL = "mpa:changed"
TRIES = 64
DAMAGED_LASTS = timedelta(days=7)

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
-- A damaged set or version must not leave the record half written: the reconciler makes the set again.
if active == '1' then redis.pcall('SADD', KEYS[2], id) end
if active == '0' then redis.pcall('SREM', KEYS[2], id) end
if visible == '0' then return 1 end
redis.call('HSET', job, 'updated', now)
local version = redis.pcall('HINCRBY', job, 'version', 1)
if type(version) == 'table' then
  version = string.format('%d', math.floor(tonumber(now)))
  redis.call('HSET', job, 'version', version)
end
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
        values, now = await self._answers(pipe, job_id)
        with reading(_called(job_id)):
            return {name: _text(value) for name, value in zip(names, values, strict=True)}, now

    async def read_all(self, job_id: str) -> tuple[dict[str, str], float]:
        pipe = self.redis.pipeline(transaction=False)
        pipe.hgetall(job_key(job_id))
        pipe.time()
        values, now = await self._answers(pipe, job_id)
        with reading(_called(job_id)):
            return {str(_text(name)): str(_text(value)) for name, value in values.items()}, now

    async def _answers(self, pipe: Any, job_id: str) -> tuple[Any, float]:
        """What the pipeline's first command returned, and the time. Raises Damaged for a key of another type."""
        try:
            values, (seconds, micros) = await pipe.execute()
        except ResponseError as error:
            if not _is_wrong_type(error):
                raise
            raise Damaged(f"{_called(job_id)} is damaged: {job_key(job_id)} is not a hash.") from error
        return values, self._clock() if self._clock is not None else seconds + micros / 1e6

    async def set_aside(self, job_id: str) -> None:
        """Move a damaged record out of the way, and keep it for a week for whoever looks into it."""
        aside = f"mpa:damaged:{job_id}"
        with suppress(ResponseError):  # another reconciler was faster
            await self.redis.rename(job_key(job_id), aside)
            await self.redis.expire(aside, DAMAGED_LASTS)

    async def update(
        self,
        job_id: str,
        names: Sequence[str],
        decide: Callable[[Fields, float], Change[T]],
        *,
        must_exist: bool = True,
    ) -> T:
        """Read ``names``, let ``decide`` choose the change, and write it if the fields still hold what was read.

        Otherwise starts over. Raises NotFound for an unknown job, Damaged if ``decide`` cannot read the fields, and
        Unavailable if others keep changing them first.
        """
        asked = list(dict.fromkeys((*names, "spec")))
        for _ in range(TRIES):
            values, now = await self.read(job_id, asked)
            if must_exist and values["spec"] is None:
                raise NotFound(f"There is no job {job_id}: list the known ones with GET /v1/jobs.")
            with reading(_called(job_id)):
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


class JobIndex:
    """Which jobs there are, and which of them the reconciler moves on. Both can be made again from records and store:
    a key of another type is dropped.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def known(self) -> set[str]:
        return set(map(_name, await self._asked(JOBS, self._redis.zrange(JOBS, 0, -1))))

    async def active(self) -> list[str]:
        return sorted(map(_name, await self._asked(ACTIVE, self._redis.smembers(ACTIVE))))

    async def page(self, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """The ids after ``cursor``, newest first, and the cursor of the next page."""
        start = 0
        if cursor is not None:
            rank = await self._asked(JOBS, self._redis.zrevrank(JOBS, cursor))
            start = 0 if not isinstance(rank, int) else rank + 1
        found = await self._asked(JOBS, self._redis.zrevrange(JOBS, start, start + limit))
        ids = list(map(_name, found))
        return ids[:limit], ids[limit - 1] if len(ids) > limit else None

    async def add(self, job_id: str, created: float) -> None:
        await self._asked(JOBS, self._redis.zadd(JOBS, {job_id: created}, nx=True))

    async def try_to_write(self) -> None:
        """Raises RedisError unless Redis takes writes. Writes nothing: it changes only a job that has no name."""
        await self._asked(JOBS, self._redis.zadd(JOBS, {"": 0.0}, xx=True))

    async def activate(self, job_id: str) -> None:
        await self._asked(ACTIVE, self._redis.sadd(ACTIVE, job_id))

    async def _asked(self, key: str, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except ResponseError as error:
            if not _is_wrong_type(error):
                raise
            log.error("%s held something else than ids of jobs; it is dropped and made again.", key)
            await self._redis.delete(key)
            return []


def _called(job_id: str) -> str:
    return f"The record of job {job_id} in Redis"


def _is_wrong_type(error: ResponseError) -> bool:
    return "WRONGTYPE" in str(error)


def _name(value: bytes) -> str:
    return value.decode(errors="replace")


def _text(value: bytes | str | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
