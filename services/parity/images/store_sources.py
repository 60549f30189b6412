"""Images of a job that are in the artifact store, named by a prefix or a pattern of keys.

Entries name them by URL, even in a local store: they can be read wherever the store is, and the garbage collection
sees that a job needs them.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator

from fsspec.utils import glob_translate

from services.parity.images.leaving_out import LeftOutCount
from services.parity.images.table_sources import stored_images
from shared.store import Store


def images_below(store: Store, prefix: str, recursive: bool, left_out: LeftOutCount) -> Iterator[str]:
    """URLs of the images below ``prefix`` in key order; without ``recursive``, only those directly in it."""
    start = len(prefix) + 1 if prefix else 0
    for key in store.list(prefix):
        if (recursive or "/" not in key[start:]) and left_out.takes(key[start:], tables=True):
            yield from stored_images(store, key, left_out)


def images_like(store: Store, pattern: str, left_out: LeftOutCount) -> Iterator[str]:
    """URLs of the images whose keys match: ``*`` within a folder's name, ``**`` over any number of folders."""
    matches = re.compile(glob_translate(pattern)).match
    folder = _folder_before_wildcard(pattern)
    for key in store.list(folder):
        if matches(key) and left_out.takes(key[len(folder) :].lstrip("/"), tables=True):
            yield from stored_images(store, key, left_out)


def _folder_before_wildcard(pattern: str) -> str:
    """The folder to list: object stores can list by prefix only."""
    *folders, _ = pattern.split("/")
    first = next((n for n, name in enumerate(folders) if glob.has_magic(name)), len(folders))
    return "/".join(folders[:first])
