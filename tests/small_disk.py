"""A real disk of one MiB that tests fill, make read-only and unmount. It needs the right to mount, which root has."""

from __future__ import annotations

import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

MIB = 1 << 20
_FILLER = "filler"


class Disk:
    """A tmpfs on ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, left: int = 0) -> None:
        """Leave at most ``left`` bytes, rounded down to whole pages."""
        self.free()
        found = os.statvfs(self.folder)
        with (self.folder / _FILLER).open("wb") as file:
            file.write(bytes(max(0, found.f_bavail * found.f_frsize - left)))
        with suppress(OSError), (self.folder / _FILLER).open("ab") as file:
            while left == 0:
                file.write(bytes(512))
                file.flush()

    def free(self) -> None:
        (self.folder / _FILLER).unlink(missing_ok=True)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self._remount("ro")
        try:
            yield
        finally:
            self._remount("rw")

    @contextmanager
    def unmounted(self) -> Iterator[None]:
        """Its content is elsewhere meanwhile, and comes back."""
        elsewhere = self.folder.with_name(f"{self.folder.name}.elsewhere")
        elsewhere.mkdir()
        _run("mount", "--move", str(self.folder), str(elsewhere))
        try:
            yield
        finally:
            _run("mount", "--move", str(elsewhere), str(self.folder))
            elsewhere.rmdir()

    def _remount(self, mode: str) -> None:
        _run("mount", "-o", f"remount,{mode}", str(self.folder))


@contextmanager
def mounted_disk(folder: Path, size: int = MIB) -> Iterator[Disk]:
    """Skips the test, with a warning, where nothing can be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        words = f"No disk can be mounted here, so trouble of a real disk is not tested: {error}"
        warnings.warn(words, stacklevel=2)
        pytest.skip(words)
    try:
        yield Disk(folder)
    finally:
        _run("umount", "--lazy", str(folder))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)
