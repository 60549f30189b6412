"""From the image sources of a spec to manifest entries: the images, and the tasks of each.

Only manifests are opened here. An unreadable image is found, with the reason, when it is collected.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from pathlib import Path

from services.parity.images.access import UNWRITABLE, SourceRules, allowed, store_key
from services.parity.images.leaving_out import LeftOutCount, printable
from services.parity.images.manifests import read_list
from services.parity.images.store_sources import images_below, images_like
from services.parity.images.table_sources import local_images, stored_images
from services.parity.images.uploads import RECEIPT, upload_prefix
from shared.compatibility import read_shown
from shared.contracts import (
    FolderSource,
    GlobSource,
    ImageSource,
    ManifestEntry,
    ManifestSource,
    TrafficSource,
    UploadReceipt,
    UploadSource,
)
from shared.errors import InvalidInput, NotFound
from shared.images.formats import IMAGE_SUFFIXES
from shared.images.traffic import traffic_images
from shared.store import Store

Found = tuple[str, Sequence[str]]


def list_images(
    sources: Iterable[ImageSource],
    tasks: Sequence[str],
    store: Store,
    rules: SourceRules,
    student: str,
    left_out: LeftOutCount | None = None,
) -> list[ManifestEntry]:
    """All images of all sources in order, each once, with the union of its tasks.

    ``student``: the student whose traffic a source means if it names none. ``left_out`` counts the files that are not
    taken. Raises InvalidInput for a source without images, and
    Forbidden for an image outside the allowed folders and the store.
    """
    wanted: dict[str, dict[str, None]] = {}
    left_out = LeftOutCount() if left_out is None else left_out
    for source in sources:
        found_any = False
        for image, asked in _found(source, list(source.tasks or tasks), store, rules, student, left_out):
            if UNWRITABLE.search(image):  # a folder on the way to the source
                raise InvalidInput(f"The path {printable(image)!r} is not UTF-8: rename its folder.")
            found_any = True
            wanted.setdefault(image, {}).update(dict.fromkeys(asked))
            if len(wanted) > rules.max_images:
                raise InvalidInput(
                    f"The sources hold more than {rules.max_images} images (MPA_MAX_IMAGES_PER_JOB): split the job."
                )
        if not found_any:
            words = left_out.words()
            others = f" Left out: {words}." if words else ""
            raise InvalidInput(f"The image source {_named(source)} holds no images: {_hint(source)}{others}")
    return [ManifestEntry(index=i, image=image, tasks=list(asked)) for i, (image, asked) in enumerate(wanted.items())]


def _found(
    source: ImageSource, tasks: list[str], store: Store, rules: SourceRules, student: str, left_out: LeftOutCount
) -> Iterator[Found]:
    match source:
        case FolderSource():
            prefix = store_key(source.path, store)
            if prefix is None:
                found = _folder(source, rules, left_out)
            else:
                found = images_below(store, prefix, source.recursive, left_out)
            yield from ((image, tasks) for image in found)
        case GlobSource():
            pattern = store_key(source.pattern, store)
            found = _glob(source, rules, left_out) if pattern is None else images_like(store, pattern, left_out)
            yield from ((image, tasks) for image in found)
        case ManifestSource():
            for image, task in read_list(source, store, rules):
                yield image, tasks if task is None else [task]
        case TrafficSource():
            since = source.since and source.since.astimezone(UTC)
            keys = traffic_images(store, source.student or student, since)
            yield from ((store.url_of(key), tasks) for key in keys)
        case UploadSource():
            yield from ((image, tasks) for image in _upload(source, store, left_out))


def _folder(source: FolderSource, rules: SourceRules, left_out: LeftOutCount) -> Iterator[str]:
    folder = allowed(Path(source.path), rules.roots)
    if not folder.is_dir():
        raise InvalidInput(f"{source.path} is not a folder: name a folder, or use a glob or manifest source.")

    def unread(error: OSError) -> None:
        left_out.add("folder that cannot be read", str(error.filename))

    for parent, folders, files in os.walk(folder, onerror=unread):
        folders.sort()
        if not source.recursive:
            folders.clear()
        for name in folders:
            if Path(parent, name).is_symlink():
                left_out.add("link to a folder: name the folder as a source", str(Path(parent, name)))
        for name in sorted(files):
            path = Path(parent, name)
            if left_out.takes(path.relative_to(folder).as_posix(), tables=True):
                yield from local_images(path, left_out)


def _glob(source: GlobSource, rules: SourceRules, left_out: LeftOutCount) -> Iterator[str]:
    pattern = Path(source.pattern).absolute()
    if ".." in pattern.parts:
        raise InvalidInput(f"{source.pattern} contains '..': write the pattern without it.")
    fixed = Path(*_before_wildcard(pattern))
    allowed(fixed, rules.roots)
    rest = str(pattern.relative_to(fixed))
    found = [fixed] if rest == "." else fixed.glob(rest)
    for path in sorted(found):
        name = path.relative_to(fixed).as_posix() if path != fixed else path.name
        if not path.is_dir() and left_out.takes(name, tables=True):
            yield from local_images(path, left_out)


def _before_wildcard(pattern: Path) -> Iterator[str]:
    for part in pattern.parts:
        if glob.has_magic(part):
            return
        yield part


def _upload(source: UploadSource, store: Store, left_out: LeftOutCount) -> Iterator[str]:
    prefix = upload_prefix(source.upload_id)
    try:
        receipt = read_shown(UploadReceipt, store.read(f"{prefix}/{RECEIPT}"))
    except NotFound:
        raise InvalidInput(
            f"The upload {source.upload_id!r} does not exist: send the images to POST /v1/uploads first."
        ) from None
    for one in receipt.left_out:
        left_out.add(one.reason, one.example, one.files)
    for key in store.list(prefix):
        if not key.endswith(f"/{RECEIPT}"):
            path = store.local_path(key)
            yield from stored_images(store, key, left_out) if path is None else local_images(path, left_out)


def _named(source: ImageSource) -> str:
    return source.model_dump_json(exclude_none=True, exclude={"tasks"})


def _hint(source: ImageSource) -> str:
    if isinstance(source, ManifestSource):
        return "the manifest is empty."
    if isinstance(source, TrafficSource):
        return "let the student sample some first (MPA_STUDENT_TAP_SHARE), or ask for an earlier 'since'."
    return f"put files there that end in {', '.join(sorted(IMAGE_SUFFIXES))}."
