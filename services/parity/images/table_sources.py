"""The images of the tables in a source: Parquet and Arrow files, as ``datasets`` and Hugging Face lay them out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from services.parity.images.leaving_out import LeftOutCount
from shared.errors import MPAError
from shared.images.json_tables import JSON_SUFFIXES
from shared.images.tables import TABLE_SUFFIXES, open_local, references
from shared.store import Store

LIST_OF_NAMES = "list without images inside: name it as a manifest"


def local_images(path: Path, left_out: LeftOutCount) -> Iterator[str]:
    """``path`` itself, or what is in it if it is a table."""
    if path.suffix not in TABLE_SUFFIXES:
        yield str(path)
    elif _is_saved(path):
        yield from _inside(str(path), lambda: open_local(path), left_out)
    else:
        left_out.add("cache of a saved dataset", str(path))


def stored_images(store: Store, key: str, left_out: LeftOutCount) -> Iterator[str]:
    """As ``local_images``, by the URL of an object in the artifact store."""
    if key.endswith(TABLE_SUFFIXES):
        yield from _inside(store.url_of(key), lambda: store.opened(key), left_out)
    else:
        yield store.url_of(key)


def _inside(name: str, opened: Callable[[], AbstractContextManager[BinaryIO]], left_out: LeftOutCount) -> Iterator[str]:
    try:
        with opened() as file:
            found = references(name, file)
            if found is None:
                is_list = name.endswith(JSON_SUFFIXES)
                left_out.add(LIST_OF_NAMES if is_list else "table without a column of images as bytes", name)
            else:
                yield from found
    except MPAError:  # an outage of the store says nothing about the table
        raise
    except Exception as error:  # damaged tables raise anything
        left_out.add(f"table that cannot be read ({type(error).__name__})", name)


def _is_saved(path: Path) -> bool:
    """Whether ``save_to_disk`` lists the file; its folder may also hold caches of computations."""
    state = path.with_name("state.json")
    if path.suffix != ".arrow" or not state.is_file():
        return True
    try:
        files = json.loads(state.read_bytes())["_data_files"]
        return path.name in {one["filename"] for one in files}
    except (ValueError, LookupError, TypeError):
        return True
