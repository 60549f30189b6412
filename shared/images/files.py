"""Reads the images of a pile by their names in a manifest: a local path, an artifact's URL, or an http(s) URL.

Every failure is an UnreadableImage with the reason in words, because one bad image must never stop a job.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from shared.errors import MPAError, StorageUnavailable, Unavailable
from shared.images.errors import UnreadableImage
from shared.images.tables import TableImages, open_local, split_reference
from shared.images.web import WEB_SCHEMES, WebImages
from shared.store import Store
from shared.store.trouble import in_words

# An input/output error may be one bad sector, or a network disk: whether the folder can be read tells which.
_AWAY = frozenset({errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EMFILE, errno.ENFILE})


class ImageFiles:
    """``roots``: folders that paths must lie in once links are resolved (None: any). Safe to use from threads."""

    def __init__(
        self,
        store: Store,
        *,
        roots: Sequence[Path] | None,
        max_bytes: int,
        allow_urls: bool,
        allow_private_urls: bool = False,
        timeout: float = 30.0,
    ) -> None:
        self._store = store
        uploads = store.local_path("uploads")
        allowed = [*(roots or ()), *([uploads] if uploads else ())]
        self._roots = None if roots is None else [root.resolve() for root in allowed]
        self._max_bytes = max_bytes
        self._allow_urls = allow_urls
        self._tables = TableImages()
        self._web = WebImages(max_bytes=max_bytes, allow_private=allow_private_urls, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._web.close()

    def read(self, image: str) -> bytes:
        """The image's file bytes; raises UnreadableImage, and StorageUnavailable while its folder or store is away."""
        if image.startswith(WEB_SCHEMES):
            return self._fetch(image)
        inside = split_reference(image)
        if inside is not None:
            return self._in_table(*inside)
        if image.startswith(f"{self._store.url}/"):
            return self._artifact(image[len(self._store.url) + 1 :])
        return self._file(Path(image))

    def _in_table(self, file: str, row: int, item: int | None) -> bytes:
        in_store = file.startswith(f"{self._store.url}/")
        try:
            if in_store:
                key = file[len(self._store.url) + 1 :]
                cell = self._tables.cell(file, row, item, lambda: self._store.opened(key))
            else:
                path = self._allowed(Path(file))
                cell = self._tables.cell(file, row, item, lambda: open_local(path))
        except (Unavailable, UnreadableImage):
            raise
        except Exception as error:  # damaged tables raise anything
            if not in_store:
                self._check_storage(Path(file), error)
            raise UnreadableImage(f"Row {row} of {file} cannot be read: {error}.") from error
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if data is None and isinstance(cell, dict) and cell.get("path"):
            beside = posixpath.join(posixpath.dirname(file), str(cell["path"]))
            if split_reference(beside) is not None:
                raise UnreadableImage(f"Row {row} of {file} names a row of a table instead of an image.")
            return self.read(beside)
        if data is None:
            raise UnreadableImage(f"Row {row} of {file} holds no image.")
        if len(data) > self._max_bytes:
            raise self._too_large(len(data))
        return bytes(data)

    def _allowed(self, path: Path) -> Path:
        """The file with links resolved."""
        resolved = path.resolve(strict=True)
        if self._roots is not None and not any(resolved.is_relative_to(root) for root in self._roots):
            raise UnreadableImage(f"{path} leads outside the allowed folders (MPA_IMAGE_ROOTS).")
        if not resolved.is_file():
            raise UnreadableImage(f"{path} is not a file.")
        return resolved

    def _file(self, path: Path) -> bytes:
        try:
            resolved = self._allowed(path)
            with resolved.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > self._max_bytes:
                    raise self._too_large(size)
                return file.read(self._max_bytes + 1)
        except (OSError, ValueError) as error:
            self._check_storage(path, error)
            if isinstance(error, FileNotFoundError):
                raise UnreadableImage(f"{path} does not exist (any more).") from error
            # ValueError: a name that is not valid for a file
            raise UnreadableImage(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error

    def _check_storage(self, path: Path, error: Exception) -> None:
        """Raises StorageUnavailable if the image's folder is in trouble, which says nothing about the image."""
        if not isinstance(error, OSError):
            return
        if error.errno in _AWAY:
            raise StorageUnavailable(f"The storage of {path} {in_words(error)}.") from error
        place = Path(os.path.realpath(path))
        for root in self._roots or ():
            if place.is_relative_to(root) and _is_away(root):
                raise StorageUnavailable(
                    f"The image folder {root} is empty or cannot be read, though the job has images in it: mount it."
                ) from error

    def _artifact(self, key: str) -> bytes:
        try:
            data = self._store.read(key, at_most=self._max_bytes + 1)
        except Unavailable:  # an outage says nothing about the image
            raise
        except (MPAError, OSError) as error:
            raise UnreadableImage(f"The artifact cannot be read: {error}.") from error
        if len(data) > self._max_bytes:
            raise self._too_large(len(data))
        return data

    def _fetch(self, url: str) -> bytes:
        if not self._allow_urls:
            raise UnreadableImage(f"{url} is a URL, and those are not allowed here (MPA_ALLOW_IMAGE_URLS).")
        return self._web.fetch(url)

    def _too_large(self, size: int) -> UnreadableImage:
        return UnreadableImage(
            f"The file has at least {size} bytes, more than the limit of {self._max_bytes} (MPA_MAX_IMAGE_BYTES)."
        )


def _is_away(root: Path) -> bool:
    """Whether ``root`` is gone, cannot be read, or is the empty place where a volume was mounted."""
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except OSError:
        return True
