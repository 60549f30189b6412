"""What a store in a folder needs beyond whole files: its root, and copies without moving bytes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from shared.errors import Unavailable
from shared.files import replacing, sync_folder


def make_root(folder: Path, url: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"The artifact store {url} is not a usable folder ({error}): mount it, or correct MPA_STORE."
        ) from error


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
