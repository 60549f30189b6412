"""Manifests that a spec names: JSONL or Parquet lists of images, optionally with the task to ask about each.

A manifest is in an allowed folder or in the artifact store. Its relative paths start at its own folder.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from services.parity.images.access import UNWRITABLE, SourceRules, allowed, store_key
from shared.contracts import ManifestSource
from shared.errors import Forbidden, InvalidInput, NotFound
from shared.images.json_tables import JSON_SUFFIXES, image_cell, names_of
from shared.images.tables import image_column, references, split_reference
from shared.images.web import WEB_SCHEMES
from shared.store import Store
from shared.text_files import read_lines

Line = tuple[str, dict[str, Any]]
_IN_TABLE = "<image in this table>"
_WANTED = "name a JSONL or Parquet file with a column 'image'."


@dataclass(frozen=True)
class _Manifest:
    """``file``: a copy on this machine. ``folder``: where relative paths start; a key prefix if it is a str."""

    name: str
    file: Path
    folder: Path | str
    store_url: str = ""


def read_list(source: ManifestSource, store: Store, rules: SourceRules) -> Iterator[tuple[str, str | None]]:
    """Image and task of each line. Raises InvalidInput and Forbidden that name the line."""
    with _opened(source, store, rules) as manifest:
        lines = _parquet_lines(manifest) if source.path.endswith(".parquet") else _json_lines(manifest)
        for place, line in lines:
            task = line.get("task")
            if task is not None and not isinstance(task, str):
                raise InvalidInput(f"{place} has a 'task' that is not text: give the name of a task profile.")
            if _IN_TABLE in line:
                yield line[_IN_TABLE], task
                continue
            image = _path_of(line)
            if not isinstance(image, str) or not image or UNWRITABLE.search(image):
                raise InvalidInput(f"{place} has no text in 'image': give a path or URL.")
            yield _located(image, manifest.folder, place, store, rules), task


def _path_of(line: dict[str, Any]) -> object:
    """The image of a line: a path or URL, alone or as Hugging Face writes it."""
    image = line.get("image", line.get("file_name"))
    return image.get("path") if isinstance(image, dict) and not image.get("bytes") else image


@contextmanager
def _opened(source: ManifestSource, store: Store, rules: SourceRules) -> Iterator[_Manifest]:
    key = store_key(source.path, store)
    if key is None:
        path = allowed(Path(source.path), rules.roots)
        if not path.is_file():
            raise InvalidInput(f"{source.path} is not a file: {_WANTED}")
        yield _Manifest(str(path), path, path.parent)
        return
    if not key:
        raise InvalidInput(f"{source.path} is the artifact store itself: {_WANTED}")
    # A copy: a list may be larger than memory, and an outage half-way must not look like a damaged file.
    with tempfile.TemporaryDirectory(prefix="mpa-manifest-") as folder:
        copy = Path(folder, "manifest")
        try:
            store.download(key, copy)
        except NotFound as error:
            raise InvalidInput(f"{source.path} is not in the artifact store: {_WANTED}") from error
        yield _Manifest(source.path, copy, posixpath.dirname(key), store.url_of(key))


def _located(image: str, folder: Path | str, place: str, store: Store, rules: SourceRules) -> str:
    """The image as the workers read it: a URL or an absolute path."""
    if image.startswith(WEB_SCHEMES):
        if not rules.allow_urls:
            raise Forbidden(f"{place} names a URL: set MPA_ALLOW_IMAGE_URLS=true to allow that, or give paths.")
        return image
    try:
        key = store_key(image, store)
    except (Forbidden, InvalidInput) as error:
        raise type(error)(f"{place}: {error.detail}") from error
    if key is None and isinstance(folder, str) and not image.startswith("/"):
        key = posixpath.normpath(posixpath.join(folder, image))
        if key.startswith("../") or key == "..":
            raise Forbidden(f"{place} names {image!r}, which is outside the artifact store {store.url} (MPA_STORE).")
    if key is not None:
        return f"{store.url}/{key}"
    path = Path(os.path.normpath(Path(folder, image)))
    # Links are checked when an image is read. Here the name itself must not lead out of the folders.
    if not any(path.is_relative_to(form) for root in rules.roots for form in (root.absolute(), root.resolve())):
        raise Forbidden(f"{place} names {image!r}, which is outside the allowed image folders (MPA_IMAGE_ROOTS).")
    return str(path)


def _json_lines(manifest: _Manifest) -> Iterator[Line]:
    try:
        for found in read_lines(manifest.file):
            place = f"Line {found.number} of {manifest.name}"
            try:
                line = found.json()
            except ValueError as error:
                raise InvalidInput(f"{place} is not valid JSON: {error}.") from error
            if not isinstance(line, dict):
                raise InvalidInput(f'{place} is not a JSON object: write one like {{"image": "a.png"}}.')
            cell = image_cell(line)
            if cell is None:
                yield place, line
                continue
            name = manifest.store_url or str(manifest.file)
            if not name.endswith(JSON_SUFFIXES):
                raise InvalidInput(f"{place} holds the image itself: give the file a name that ends in .jsonl.")
            for image in names_of(name, found.number - 1, cell):
                yield place, {_IN_TABLE: image, "task": line.get("task")}
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{manifest.name} cannot be read ({error}): give a file in UTF-8.") from error


def _parquet_lines(manifest: _Manifest) -> Iterator[Line]:
    number = 0
    try:
        with pq.ParquetFile(manifest.file) as file:
            column = image_column(file.schema_arrow)
            if column is not None:
                yield from _rows_of_images(manifest, file)
                return
            names = [name for name in ("image", "task") if name in file.schema_arrow.names]
            for batch in file.iter_batches(columns=names):
                for line in batch.to_pylist():
                    number += 1
                    yield f"Row {number} of {manifest.name}", line
    except (pa.ArrowException, OSError) as error:
        after = f" after row {number}" if number else ""
        raise InvalidInput(f"{manifest.name} is not a readable Parquet file{after}: {error}.") from error


def _rows_of_images(manifest: _Manifest, file: pq.ParquetFile) -> Iterator[Line]:
    """A table that holds its images names them by their rows."""
    place = manifest.store_url or str(manifest.file)
    has_task = "task" in file.schema_arrow.names
    tasks = (value for batch in file.iter_batches(columns=["task"]) for value in batch.column(0).to_pylist())
    row, task = -1, None
    with manifest.file.open("rb") as again:
        for image in references(place, again) or ():
            inside = split_reference(image)
            assert inside is not None
            while has_task and row < inside[1]:
                row, task = row + 1, next(tasks)
            yield f"Row {inside[1] + 1} of {manifest.name}", {_IN_TABLE: image, "task": task}
