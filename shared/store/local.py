"""Writes to a folder that are as atomic as an object store's: a temporary name, the disk, then the right name."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from shared.errors import Unavailable

TEMPORARY = ".tmp-"


def make_root(folder: Path, url: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"The artifact store {url} is no folder that can be used ({error}): mount it, or correct MPA_STORE."
        ) from error


def temporary_beside(path: Path) -> Path:
    """A name of its own in ``path``'s folder, which is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f"{TEMPORARY}{secrets.token_hex(6)}")


def write_file(path: Path, data: bytes) -> None:
    """Readers see the old bytes or the new, whole, and the new ones survive a loss of power."""
    temporary = _written_beside(path, data)
    temporary.replace(path)
    _sync_folder(path.parent)


def create_file(path: Path, data: bytes) -> bool:
    """The same unless ``path`` exists; whether this call wrote."""
    temporary = _written_beside(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    _sync_folder(path.parent)
    return True


def copy_file(source: Path, target: Path) -> None:
    """Published files are never written to again, only replaced, so a second name for one is as good as a copy."""
    temporary = temporary_beside(target)
    try:
        os.link(source, temporary)
    except FileNotFoundError:
        raise
    except OSError:  # not every file system has links
        shutil.copyfile(source, temporary)
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # rename does nothing where both are links to one file
    _sync_folder(target.parent)


def _written_beside(path: Path, data: bytes) -> Path:
    temporary = temporary_beside(path)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
