"""From the image sources of a spec to manifest entries: the images, and the tasks of each.

Only manifests are opened here. An unreadable image is found, with the reason, when it is collected.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from pathlib import Path

from services.parity.images.access import UNWRITABLE, SourceRules, allowed, is_image_name, store_key
from services.parity.images.manifests import read_list
from services.parity.images.store_sources import images_below, images_like
from services.parity.images.uploads import RECEIPT, upload_prefix
from shared.contracts import (
    FolderSource,
    GlobSource,
    ImageSource,
    ManifestEntry,
    ManifestSource,
    TrafficSource,
    UploadSource,
)
from shared.errors import InvalidInput
from shared.images.formats import IMAGE_SUFFIXES
from shared.images.traffic import traffic_images
from shared.store import Store

Found = tuple[str, Sequence[str]]


def list_images(
    sources: Iterable[ImageSource], tasks: Sequence[str], store: Store, rules: SourceRules, student: str
) -> list[ManifestEntry]:
    """All images of all sources in order, each once, with the union of its tasks.

    ``student``: the student whose traffic a source means if it names none. Raises InvalidInput for a source without
    images, and Forbidden for an image outside the allowed folders and the store.
    """
    wanted: dict[str, dict[str, None]] = {}
    for source in sources:
        found_any = False
        for image, asked in _found(source, list(source.tasks or tasks), store, rules, student):
            found_any = True
            if UNWRITABLE.search(image):
                raise InvalidInput(f"The file name {image!r} is not valid UTF-8: rename it, or leave it out.")
            wanted.setdefault(image, {}).update(dict.fromkeys(asked))
            if len(wanted) > rules.max_images:
                raise InvalidInput(
                    f"The sources hold more than {rules.max_images} images (MPA_MAX_IMAGES_PER_JOB): split the job."
                )
        if not found_any:
            raise InvalidInput(f"The image source {_named(source)} holds no images: {_hint(source)}")
    return [ManifestEntry(index=i, image=image, tasks=list(asked)) for i, (image, asked) in enumerate(wanted.items())]


def _found(source: ImageSource, tasks: list[str], store: Store, rules: SourceRules, student: str) -> Iterator[Found]:
    match source:
        case FolderSource():
            prefix = store_key(source.path, store)
            found = _folder(source, rules) if prefix is None else images_below(store, prefix, source.recursive)
            yield from ((image, tasks) for image in found)
        case GlobSource():
            pattern = store_key(source.pattern, store)
            found = _glob(source, rules) if pattern is None else images_like(store, pattern)
            yield from ((image, tasks) for image in found)
        case ManifestSource():
            for image, task in read_list(source, store, rules):
                yield image, tasks if task is None else [task]
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
        yield from (str(Path(parent, name)) for name in sorted(files) if is_image_name(name))


def _glob(source: GlobSource, rules: SourceRules) -> Iterator[str]:
    pattern = Path(source.pattern).absolute()
    if ".." in pattern.parts:
        raise InvalidInput(f"{source.pattern} contains '..': write the pattern without it.")
    fixed = Path(*_before_wildcard(pattern))
    allowed(fixed, rules.roots)
    rest = str(pattern.relative_to(fixed))
    found = [fixed] if rest == "." else fixed.glob(rest)
    yield from (str(path) for path in sorted(found) if is_image_name(path.name) and path.is_file())


def _before_wildcard(pattern: Path) -> Iterator[str]:
    for part in pattern.parts:
        if glob.has_magic(part):
            return
        yield part


def _upload(source: UploadSource, store: Store) -> Iterator[str]:
    prefix = upload_prefix(source.upload_id)
    if not store.exists(f"{prefix}/{RECEIPT}"):
        raise InvalidInput(f"There is no upload {source.upload_id!r}: send the images to POST /v1/uploads first.")
    for key in store.list(prefix):
        if is_image_name(key):
            yield str(store.local_path(key) or store.url_of(key))


def _named(source: ImageSource) -> str:
    return source.model_dump_json(exclude_none=True, exclude={"tasks"})


def _hint(source: ImageSource) -> str:
    if isinstance(source, ManifestSource):
        return "the manifest is empty."
    if isinstance(source, TrafficSource):
        return "let the student sample some first (MPA_STUDENT_TAP_SHARE), or ask for an earlier 'since'."
    return f"put files there that end in {', '.join(sorted(IMAGE_SUFFIXES))}."
