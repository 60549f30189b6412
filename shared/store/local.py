"""What a store in a folder needs beyond whole files: its root, typed errors, and copies without moving bytes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from shared.errors import StorageUnavailable, Unavailable
from shared.files import replacing, sync_folder
from shared.store.trouble import ABSENT, in_words, is_trouble


class LocalRoot:
    """The folder of a store. It may be a mount that comes and goes while the process runs."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self._url = folder, url
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"The artifact store {url} is not a usable folder ({error}): mount it, or correct MPA_STORE."
            ) from error
        self._known = _identity(folder)
        self._had_content = _has_content(folder)

    def check(self) -> None:
        """Raises StorageUnavailable if the folder is gone, or is the empty place where a volume was mounted.

        A write would bring it back on the wrong disk, and a missing file would say nothing.
        """
        try:
            found = _identity(self.folder)
            if found == self._known:
                self._had_content = self._had_content or _has_content(self.folder)
                return
            if self._had_content and not _has_content(self.folder):
                raise StorageUnavailable(
                    f"The artifact store {self._url} is away: its folder is empty, and was not before. Mount it again."
                )
            self._known, self._had_content = found, True
        except FileNotFoundError as error:
            raise StorageUnavailable(
                f"The artifact store {self._url} is away: its folder does not exist any more. Mount it again."
            ) from error

    def wrote(self) -> None:
        self._had_content = True

    @contextmanager
    def typed_errors(self) -> Iterator[None]:
        """Turn trouble of the disk into StorageUnavailable; errors about missing or existing files pass unchanged."""
        try:
            try:
                yield
            except ABSENT:
                self.check()
                raise
        except OSError as error:
            if not is_trouble(error):
                raise
            raise StorageUnavailable(f"The artifact store {self._url} {in_words(error)}.") from error


def copy_file(source: Path, target: Path) -> None:
    """Published files are only ever replaced, never written to, so a second name for one is as good as a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except FileNotFoundError:
            raise
        except OSError:  # not every file system has links
            shutil.copyfile(source, temporary)
    sync_folder(target.parent)


def remove(path: Path) -> None:
    """Remove a file, or a folder and all below it; nothing happens if it does not exist. Raises OSError in trouble."""
    if path.is_dir():
        shutil.rmtree(path, onerror=_ignore_what_is_gone)
    else:
        path.unlink(missing_ok=True)


def walk(folder: Path) -> Iterator[Path]:
    """All names of files below ``folder``, none if it is missing. Raises OSError for a folder that cannot be read."""
    for place, _, names in os.walk(folder, onerror=_raise_unless_absent):
        for name in names:
            yield Path(place) / name


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, ABSENT):
        raise error


def _ignore_what_is_gone(
    _call: Any, _path: str, found: tuple[type[BaseException], BaseException, TracebackType]
) -> None:
    """Others may delete, or write, in the same folder at the same time."""
    error = found[1]
    if isinstance(error, OSError) and is_trouble(error):
        raise error


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _has_content(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is not None
