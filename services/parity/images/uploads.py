"""Uploads: a zip or single images or tables of images, checked as they are unpacked, and stored under new names.

Names inside a zip are never used as paths. Sizes are counted while unpacking, not taken from the zip's directory.
"""

from __future__ import annotations

import secrets
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from services.parity.images.leaving_out import LeftOutCount
from services.parity.images.table_sources import local_images
from shared.contracts import UploadReceipt
from shared.errors import InvalidInput, StorageUnavailable, TooLarge
from shared.images.formats import IMAGE_SUFFIXES
from shared.images.tables import TABLE_SUFFIXES
from shared.store import Store
from shared.store.trouble import disk_trouble, in_words

RECEIPT = "receipt.json"
CHUNK = 1 << 20
_ENDINGS = ", ".join([*sorted(IMAGE_SUFFIXES), *TABLE_SUFFIXES])
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError)


@dataclass(frozen=True)
class UploadLimits:
    """``total``: bytes of all unpacked files together. ``image``: bytes of one image file. ``count``: number of images,
    those inside tables included.
    """

    total: int
    image: int
    count: int


def upload_prefix(upload_id: str) -> str:
    return f"uploads/{upload_id}"


def store_upload(files: Iterable[tuple[str, BinaryIO]], store: Store, limits: UploadLimits) -> UploadReceipt:
    """Unpack and publish (name, content) files. The receipt is written last and marks the upload as complete.

    Raises InvalidInput for a damaged zip or one without images, TooLarge beyond the limits, and StorageUnavailable.
    Nothing stays of an upload that fails.
    """
    upload_id = f"up-{secrets.token_hex(8)}"
    try:
        return _store(upload_id, files, store, limits)
    except OSError as error:
        if disk_trouble(error) is None:
            raise
        place = tempfile.gettempdir()
        raise StorageUnavailable(f"The folder for temporary files, {place}, {in_words(error)}.") from error


def _store(upload_id: str, files: Iterable[tuple[str, BinaryIO]], store: Store, limits: UploadLimits) -> UploadReceipt:
    with tempfile.TemporaryDirectory(prefix="mpa-upload-") as name:
        folder = Path(name)
        count = total = 0
        left_out = LeftOutCount()
        for number, (suffix, content, label) in enumerate(_images(files, left_out)):
            path, left = folder / f"{number:07d}{suffix}", limits.total - total
            is_table = suffix in TABLE_SUFFIXES
            total += _copy(content, path, label, left, limits.total if is_table else limits.image)
            count += _count(path, label, left_out) if is_table else 1
            if count > limits.count:
                raise TooLarge(f"The upload holds more than {limits.count} images (MPA_MAX_IMAGES_PER_JOB): split it.")
        if count == 0:
            words = left_out.words()
            raise InvalidInput(
                f"The upload holds no images: send a zip, or files that end in {_ENDINGS}."
                + (f" Left out: {words}." if words else "")
            )
        receipt = UploadReceipt(upload_id=upload_id, images=count, bytes=total, left_out=left_out.reasons())
        (folder / RECEIPT).write_text(receipt.model_dump_json())
        _publish(folder, store, upload_id)
    return receipt


def _publish(folder: Path, store: Store, upload_id: str) -> None:
    try:
        store.publish_dir(folder, upload_prefix(upload_id), last=RECEIPT)
    except BaseException:
        with suppress(StorageUnavailable):
            store.delete(upload_prefix(upload_id))
        raise


def _images(files: Iterable[tuple[str, BinaryIO]], left_out: LeftOutCount) -> Iterator[tuple[str, BinaryIO, str]]:
    given = list(files)
    for name, content in given:
        if zipfile.is_zipfile(content):
            content.seek(0)
            yield from _members(name, content, left_out)
        elif len(given) == 1 and _suffix(name) not in (*IMAGE_SUFFIXES, *TABLE_SUFFIXES):
            raise InvalidInput(f"{name!r} is neither a zip nor an image file or a table of images ({_ENDINGS}).")
        elif left_out.takes(name, tables=True):
            content.seek(0)
            yield _suffix(name), content, name


def _members(name: str, content: BinaryIO, left_out: LeftOutCount) -> Iterator[tuple[str, BinaryIO, str]]:
    try:
        with zipfile.ZipFile(content) as archive:
            for member in sorted(archive.infolist(), key=lambda info: info.filename):
                if member.is_dir() or not left_out.takes(member.filename, tables=True):
                    continue
                if stat.S_ISLNK(member.external_attr >> 16):
                    left_out.add("link in an archive", member.filename)
                    continue
                if member.flag_bits & 0x1:
                    raise InvalidInput(f"{member.filename!r} in {name!r} is encrypted: send a zip without a password.")
                with archive.open(member) as file:
                    yield _suffix(member.filename), file, f"{member.filename!r} in {name!r}"  # type: ignore[misc]
    except DAMAGE as error:
        raise InvalidInput(f"The zip {name!r} is damaged or not supported: {error}.") from error


def _count(path: Path, label: str, left_out: LeftOutCount) -> int:
    """The images in a table, which is deleted if it holds none that can be read."""
    found = LeftOutCount()
    count = sum(1 for _ in local_images(path, found))
    for one in found.reasons():
        left_out.add(one.reason, label, one.files)
    if count == 0:
        path.unlink()
    return count


def _copy(source: BinaryIO, target: Path, label: str, left: int, longest: int) -> int:
    size = 0
    with target.open("wb") as file:
        while chunk := _read(source, label):
            size += len(chunk)
            if size > longest:
                raise TooLarge(f"{label} has more than {longest} bytes (MPA_MAX_IMAGE_BYTES).")
            if size > left:
                raise TooLarge("Together, the images of the upload are larger than MPA_MAX_UPLOAD allows: split it.")
            file.write(chunk)
    return size


def _read(source: BinaryIO, label: str) -> bytes:
    try:
        return source.read(CHUNK)
    except DAMAGE as error:
        raise InvalidInput(f"{label} is damaged: {error}.") from error


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()
