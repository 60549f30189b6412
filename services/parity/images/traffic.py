"""Copies the images of a traffic source to the job, so that it keeps them when the tap deletes them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from shared.contracts import ManifestEntry
from shared.errors import InvalidInput, NotFound
from shared.images.traffic import TRAFFIC
from shared.store import Store

COPIES_AT_ONCE = 16
"""Each copy waits for the object store, so several run at the same time."""


def pinned_prefix(job_id: str) -> str:
    return f"jobs/{job_id}/images"


def pin_traffic(store: Store, job_id: str, entries: Sequence[ManifestEntry]) -> list[ManifestEntry]:
    """The entries, with each image of a tap's pile copied below the job's own prefix, where nothing prunes it.

    An image that was deleted between the listing and its copy is left out. A pile may hold an image in several hours:
    these entries become one, with the union of their tasks. Raises InvalidInput if no image is left.
    """
    pile = f"{store.url}/{TRAFFIC}/"
    sampled = [entry.image for entry in entries if entry.image.startswith(pile)]
    if not sampled:
        return list(entries)
    with ThreadPoolExecutor(COPIES_AT_ONCE, "pin-traffic") as pool:
        places = dict(zip(sampled, pool.map(lambda image: _pin(store, job_id, image), sampled), strict=True))
    wanted: dict[str, dict[str, None]] = {}
    for entry in entries:
        place = places.get(entry.image, entry.image)
        if place is not None:
            wanted.setdefault(place, {}).update(dict.fromkeys(entry.tasks))
    if not wanted:
        raise InvalidInput(
            "All images of the traffic source were deleted while the job was submitted: submit it again."
        )
    return [ManifestEntry(index=i, image=image, tasks=list(tasks)) for i, (image, tasks) in enumerate(wanted.items())]


def _pin(store: Store, job_id: str, image: str) -> str | None:
    """The copy's URL, None if the image is gone. A pile names its files by their content."""
    target = f"{pinned_prefix(job_id)}/{PurePosixPath(image).name}"
    try:
        store.copy(image[len(store.url) + 1 :], target)
    except NotFound:
        return None
    return store.url_of(target)
