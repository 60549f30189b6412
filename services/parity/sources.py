"""From the image sources of a spec to manifest entries: which images, and which tasks each is asked about.

Nothing is opened here but manifests: an image that cannot be read is found, with its reason, when it is collected.
"""

from __future__ import annotations

import glob
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from services.parity.uploads import RECEIPT, upload_prefix
from shared.contracts import (
    FolderSource,
    GlobSource,
    ImageSource,
    ManifestEntry,
    ManifestSource,
    TrafficSource,
    UploadSource,
)
from shared.errors import Forbidden, InvalidInput
from shared.image_files import IMAGE_SUFFIXES, local_path
from shared.store import Store
from shared.traffic import traffic_images
from shared.web_images import WEB_SCHEMES

Found = tuple[str, Sequence[str]]


@dataclass(frozen=True)
class SourceRules:
    """What sources may name."""

    roots: Sequence[Path]
    allow_urls: bool
    max_images: int


def list_images(
    sources: Iterable[ImageSource], tasks: Sequence[str], store: Store, rules: SourceRules, student: str
) -> list[ManifestEntry]:
    """All images of all sources in order, each once, with the union of its tasks.

    ``student`` is whose traffic is meant where a source names none. Raises InvalidInput for a source without images,
    Forbidden for a path outside the allowed folders.
    """
    wanted: dict[str, dict[str, None]] = {}
    for source in sources:
        before = len(wanted)
        found_any = False
        for image, asked in _found(source, list(source.tasks or tasks), store, rules, student):
            found_any = True
            wanted.setdefault(image, {}).update(dict.fromkeys(asked))
            if len(wanted) > rules.max_images:
                raise InvalidInput(
                    f"The sources hold more than {rules.max_images} images (MPA_MAX_IMAGES_PER_JOB): split the job."
                )
        if not found_any and len(wanted) == before:
            raise InvalidInput(f"The image source {_named(source)} holds no images: {_hint(source)}")
    return [ManifestEntry(index=i, image=image, tasks=list(asked)) for i, (image, asked) in enumerate(wanted.items())]


def allowed(path: Path, roots: Sequence[Path]) -> Path:
    """``path`` with links resolved; raises Forbidden if it is outside ``roots``, InvalidInput if it does not exist."""
    resolved = path.resolve()
    if not any(resolved.is_relative_to(root.resolve()) for root in roots):
        names = ", ".join(str(root.resolve()) for root in roots)
        raise Forbidden(
            f"{path} is outside the allowed image folders ({names}): move it there or extend MPA_IMAGE_ROOTS."
        )
    if not resolved.exists():
        raise InvalidInput(f"{path} does not exist on the machine that runs the parity service.")
    return resolved


def _found(source: ImageSource, tasks: list[str], store: Store, rules: SourceRules, student: str) -> Iterator[Found]:
    match source:
        case FolderSource() if source.path.startswith(f"{store.url}/"):
            yield from ((image, tasks) for image in _artifacts(store, source.path[len(store.url) + 1 :]))
        case FolderSource():
            yield from ((image, tasks) for image in _folder(source, rules))
        case GlobSource():
            yield from ((image, tasks) for image in _glob(source, rules))
        case ManifestSource():
            yield from _manifest(source, tasks, rules)
        case TrafficSource():
            since = source.since and source.since.astimezone(UTC)
            keys = traffic_images(store, source.student or student, since)
            yield from ((store.url_of(key), tasks) for key in keys)
        case UploadSource():
            yield from ((image, tasks) for image in _upload(source, store))


def _folder(source: FolderSource, rules: SourceRules) -> Iterator[str]:
    folder = allowed(Path(source.path), rules.roots)
    if not folder.is_dir():
        raise InvalidInput(f"{source.path} is not a folder: name a folder, or use a glob or manifest source.")
    for parent, folders, files in os.walk(folder):
        folders.sort()
        if not source.recursive:
            folders.clear()
        yield from (str(Path(parent, name)) for name in sorted(files) if _is_image_name(name))


def _glob(source: GlobSource, rules: SourceRules) -> Iterator[str]:
    pattern = Path(source.pattern).absolute()
    if ".." in pattern.parts:
        raise InvalidInput(f"{source.pattern} has '..' in it: write the pattern without.")
    fixed = Path(*_before_wildcard(pattern))
    allowed(fixed, rules.roots)
    rest = str(pattern.relative_to(fixed))
    found = [fixed] if rest == "." else fixed.glob(rest)
    yield from (str(path) for path in sorted(found) if _is_image_name(path.name) and path.is_file())


def _before_wildcard(pattern: Path) -> Iterator[str]:
    for part in pattern.parts:
        if glob.has_magic(part):
            return
        yield part


def _artifacts(store: Store, prefix: str) -> Iterator[str]:
    for key in store.list(prefix):
        if _is_image_name(key):
            yield str(local_path(store, key) or store.url_of(key))


def _upload(source: UploadSource, store: Store) -> Iterator[str]:
    prefix = upload_prefix(source.upload_id)
    if not store.exists(f"{prefix}/{RECEIPT}"):
        raise InvalidInput(f"There is no upload {source.upload_id!r}: send the images to POST /v1/uploads first.")
    yield from _artifacts(store, prefix)


def _manifest(source: ManifestSource, tasks: list[str], rules: SourceRules) -> Iterator[Found]:
    path = allowed(Path(source.path), rules.roots)
    if not path.is_file():
        raise InvalidInput(f"{source.path} is not a file: a manifest is a JSONL or Parquet file with a column 'image'.")
    lines = _parquet_lines(path) if path.suffix == ".parquet" else _json_lines(path)
    for place, line in lines:
        image, task = line.get("image"), line.get("task")
        if not isinstance(image, str) or not image:
            raise InvalidInput(f"{place} has no text in 'image': give a path or URL.")
        if task is not None and not isinstance(task, str):
            raise InvalidInput(f"{place} has a 'task' that is no text: give the name of a task profile.")
        yield _located(image, path.parent, place, rules), tasks if task is None else [task]


def _located(image: str, folder: Path, place: str, rules: SourceRules) -> str:
    if image.startswith(WEB_SCHEMES):
        if not rules.allow_urls:
            raise Forbidden(f"{place} names a URL: set MPA_ALLOW_IMAGE_URLS=true to allow that, or give paths.")
        return image
    path = Path(os.path.normpath(folder / image))
    # Existing images are checked for links when they are read; here it is the name that must not lead out.
    if not any(path.is_relative_to(form) for root in rules.roots for form in (root.absolute(), root.resolve())):
        raise Forbidden(f"{place} names {image!r}, which is outside the allowed image folders (MPA_IMAGE_ROOTS).")
    return str(path)


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file, start=1):
            place = f"Line {number} of {path}"
            if not text.strip():
                continue
            try:
                line = json.loads(text)
            except ValueError as error:
                raise InvalidInput(f"{place} is not valid JSON: {error}.") from error
            if not isinstance(line, dict):
                raise InvalidInput(f'{place} is not a JSON object: write one like {{"image": "a.png"}}.')
            yield place, line


def _parquet_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        file = pq.ParquetFile(io.BytesIO(path.read_bytes()))
        names = [name for name in ("image", "task") if name in file.schema_arrow.names]
        number = 0
        for batch in file.iter_batches(columns=names):
            for line in batch.to_pylist():
                number += 1
                yield f"Row {number} of {path}", line
    except pa.ArrowException as error:
        raise InvalidInput(f"{path} is not a readable Parquet file: {error}.") from error


def _is_image_name(name: str) -> bool:
    path = Path(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _named(source: ImageSource) -> str:
    return source.model_dump_json(exclude_none=True, exclude={"tasks"})


def _hint(source: ImageSource) -> str:
    if isinstance(source, ManifestSource):
        return "the manifest is empty."
    if isinstance(source, TrafficSource):
        return "let the student sample some first (MPA_STUDENT_TAP_SHARE), or ask for an earlier 'since'."
    return f"put files there that end in {', '.join(sorted(IMAGE_SUFFIXES))}."
