"""Every way to damage a job that the tests know: done for real, to its record in Redis and to its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import redis

from services.parity.jobs.submission import manifest_key, spec_key
from shared.compatibility import SCHEMA
from shared.sets import shard_key
from shared.store import Store

FIELDS = ("spec", "state", "info", "run", "training", "shard:0", "shard:2", "version", "updated", "shard:x", "later")
VALUES: tuple[str | bytes, ...] = (
    "",
    "{",
    "null",
    "[]",
    "1",
    "-1",
    "1e999",
    "NaN",
    '"text"',
    "collecting",
    "promoted",
    b"\xff\xfe\x00\x01",
    '{"a": NaN}',
    '{"status": "done"}',
    '{"status": "leased", "expires": 1e300, "token": "x"}',
    '{"status": "failed", "attempts": 9}',
    '{"attempts": "many"}',
    '{"result": {"images": "x"}}',
    '{"history": []}',
    '{"history": [["collecting", 1e300]]}',
    '{"history": [["collecting", 1.0]], "round": 1000000000000}',
    '{"history": [["collecting", 1.0]], "evaluation": {"overall": 1}}',
    '{"history": [["collecting", 1.0]], "outcome": "splendid"}',
    '{"progress": {"step": "x"}}',
    '{"job_id": "other"}',
    "[" * 5000,
    "9" * 400,
)
OTHER_TYPES = ("string", "list", "set", "zset", "gone")


@dataclass(frozen=True)
class Place:
    """Where a job is kept."""

    client: redis.Redis
    store: Store
    job_id: str

    @property
    def key(self) -> str:
        return f"mpa:job:{self.job_id}"


Damage = Callable[[Place], None]


def write_field(name: str, value: str | bytes, place: Place) -> None:
    place.client.hset(place.key, name, value)


def delete_field(name: str, place: Place) -> None:
    place.client.hdel(place.key, name)


def retype(key: str, kind: str, place: Place) -> None:
    """Put a key of another type in place of ``key``, in which <job> stands for the job's id."""
    client, key = place.client, key.replace("<job>", place.job_id)
    client.delete(key)
    made: dict[str, Callable[[], Any]] = {
        "string": lambda: client.set(key, "damaged"),
        "list": lambda: client.rpush(key, "damaged"),
        "set": lambda: client.sadd(key, "damaged"),
        "zset": lambda: client.zadd(key, {"damaged": 1}),
        "hash": lambda: client.hset(key, "damaged", "1"),
        "gone": lambda: None,
    }
    made[kind]()


def write_file(key: str, data: bytes, place: Place) -> None:
    place.store.write(key.replace("<job>", place.job_id), data)


def cut_file(key: str, share: float, place: Place) -> None:
    """Keep the beginning. A file that does not exist yet stays away."""
    key = key.replace("<job>", place.job_id)
    if place.store.exists(key):
        data = place.store.read(key)
        place.store.write(key, data[: int(len(data) * share)])


def flip_file(key: str, at: float, place: Place) -> None:
    """Invert a byte."""
    key = key.replace("<job>", place.job_id)
    if place.store.exists(key):
        data = bytearray(place.store.read(key))
        if data:
            data[int((len(data) - 1) * at)] ^= 0xFF
            place.store.write(key, bytes(data))


def delete_file(key: str, place: Place) -> None:
    place.store.delete(key.replace("<job>", place.job_id))


def both(first: Damage, second: Damage, place: Place) -> None:
    first(place)
    second(place)


RECORD = "mpa:job:<job>"
SPEC, MANIFEST = spec_key("<job>"), manifest_key("<job>")
SHARD, REPORT, ROUND = shard_key("<job>", 0), "jobs/<job>/report.json", "jobs/<job>/rounds/1.json"
CONTENTS = (b"", b"null", b"{", b"\x00\xff" * 40, b'{"schema_version": %d}' % (SCHEMA + 1), b"[" * 5000)


def in_redis() -> Iterator[tuple[str, Damage]]:
    for field in FIELDS:
        yield f"{field} deleted", partial(delete_field, field)
        for value in VALUES:
            yield f"{field} = {value[:40]!r}", partial(write_field, field, value)
    for kind in OTHER_TYPES:
        yield f"record {kind}", partial(retype, RECORD, kind)
    for key in ("mpa:active", "mpa:jobs"):
        for kind in ("string", "hash", "gone"):
            yield f"{key} {kind}", partial(retype, key, kind)
    yield "garbage is active", lambda place: place.client.sadd("mpa:active", b"\xff\xfe", "", "../x") and None
    yield "garbage is known", lambda place: place.client.zadd("mpa:jobs", {b"\xff\xfe": 1, "": 2, "../x": 3}) and None


def in_store() -> Iterator[tuple[str, Damage]]:
    for key in (SPEC, MANIFEST, SHARD, REPORT, ROUND):
        name = key.rpartition("/")[2]
        yield f"{name} deleted", partial(delete_file, key)
        for data in CONTENTS:
            yield f"{name} = {data[:20]!r}", partial(write_file, key, data)
        for share in (0.3, 0.9):
            yield f"{name} cut at {share}", partial(cut_file, key, share)
        yield f"a byte of {name} flipped", partial(flip_file, key, 0.5)
    yield "stray files", lambda place: write_file("jobs/<job>/set/shard-x.parquet", b"x", place)
    yield "a stray folder", lambda place: write_file("jobs/..stray/spec.json", b"{}", place)


REDIS = dict(in_redis())
STORE = dict(in_store())
LOST = {
    f"{name}, and the record is gone": partial(both, damage, partial(retype, RECORD, "gone"))
    for name, damage in STORE.items()
}
ALL: dict[str, Damage] = {**REDIS, **STORE, **LOST}
