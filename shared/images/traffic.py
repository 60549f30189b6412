"""Where the traffic tap stores its samples, and how a job finds them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePosixPath

from shared.images.formats import IMAGE_SUFFIXES
from shared.store import Store

HOUR_FORMAT = "%Y%m%dT%H"
"""Names of hourly folders, which sort by time."""
TRAFFIC = "traffic"
"""The folder of all piles."""


def traffic_prefix(student: str) -> str:
    return f"{TRAFFIC}/{student}"


def traffic_images(store: Store, student: str, since: datetime | None = None) -> Iterator[str]:
    """Keys of the sampled images, oldest hour first, each image once. ``since`` (UTC) leaves older hours out."""
    prefix = traffic_prefix(student)
    earliest = since.strftime(HOUR_FORMAT) if since else ""
    seen: set[str] = set()
    for hour in store.list_dirs(prefix):
        if hour < earliest:
            continue
        for key in store.list(f"{prefix}/{hour}"):
            path = PurePosixPath(key)
            if path.suffix in IMAGE_SUFFIXES and path.name not in seen:
                seen.add(path.name)
                yield key
