"""The pile that the traffic tap fills in the store, bounded in size and age.

Layout: ``traffic/<student>/<hour>/<sha256>.<ending>``, one file per image, so an image that is often asked about is
kept once an hour. If questions are kept, ``<sha256>-<id>.json`` (image, question, checkpoint, time) is
beside it. Folders are hours (UTC). What is too old or too much is deleted an hour at a time, the oldest first. The
current hour is never deleted: once it fills the whole pile, it takes no more images.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from datetime import UTC, datetime, timedelta

from shared.images import image_kind
from shared.images.traffic import HOUR_FORMAT, traffic_prefix
from shared.store import Store

log = logging.getLogger(__name__)
TIDY_SECONDS = 60.0


class TrafficPile:
    """Used by one thread of each replica. Replicas may share a pile; each counts now and then what the others wrote."""

    def __init__(self, store: Store, student: str, *, max_bytes: int, max_age: timedelta) -> None:
        self._store, self._prefix = store, traffic_prefix(student)
        self._max_bytes, self._max_age = max_bytes, max_age
        self._bytes = 0
        self._tidy_at = 0.0
        self._stuck = False

    def put(self, data: bytes, question: str | None, checkpoint: str) -> bool:
        """Store an image, and its question unless that is None. Returns whether there was room."""
        now = datetime.now(UTC)
        digest = hashlib.sha256(data).hexdigest()
        name = f"{digest}.{_ending(data)}"
        record = b""
        if question is not None:
            words = {"image": name, "question": question, "checkpoint": checkpoint, "at": now.isoformat()}
            record = json.dumps(words).encode()
        if not self._has_room(len(data) + len(record), now):
            return False
        folder = f"{self._prefix}/{now.strftime(HOUR_FORMAT)}"
        if self._store.create(f"{folder}/{name}", data):
            self._bytes += len(data)
        if record:
            self._store.write(f"{folder}/{digest}-{secrets.token_hex(6)}.json", record)
            self._bytes += len(record)
        return True

    def tidy(self, room: int = 0, now: datetime | None = None) -> None:
        """Delete the hours that are too old, then the oldest ones until ``room`` bytes fit. Errors of the store are
        only logged, so that the tap goes on.
        """
        self._tidy_at = time.monotonic() + TIDY_SECONDS
        try:
            self._bytes = self._tidied(room, now or datetime.now(UTC))
        except Exception:  # another replica may delete the same hour, and the store may be unavailable
            log.exception("The traffic pile could not be tidied")

    def _has_room(self, size: int, now: datetime) -> bool:
        """Whether ``size`` bytes fit, after deleting if necessary. A pile that stays full is checked once a minute."""
        if time.monotonic() >= self._tidy_at or (not self._stuck and self._bytes + size > self._max_bytes):
            self.tidy(size, now)
            self._stuck = self._bytes + size > self._max_bytes
        return self._bytes + size <= self._max_bytes

    def _tidied(self, room: int, now: datetime) -> int:
        """Delete hours; returns the bytes that are left."""
        oldest, present = (now - self._max_age).strftime(HOUR_FORMAT), now.strftime(HOUR_FORMAT)
        sizes: dict[str, int] = {}
        for hour in self._store.list_dirs(self._prefix):
            if hour < oldest:
                self._store.delete(f"{self._prefix}/{hour}")
            else:
                sizes[hour] = self._store.size(f"{self._prefix}/{hour}")
        for hour in sorted(sizes):
            if sum(sizes.values()) + room <= self._max_bytes or hour >= present:
                break
            self._store.delete(f"{self._prefix}/{hour}")
            log.info("The traffic pile is full: deleted the hour %s", hour)
            del sizes[hour]
        return sum(sizes.values())


def _ending(data: bytes) -> str:
    kind = image_kind(data) or "tif"
    return "jpg" if kind == "jpeg" else kind
