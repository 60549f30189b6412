"""What only a store in a folder does: an unusable root is explained, and copies take no space."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from shared.errors import Unavailable
from shared.store import Store
from shared.store.local import copy_file


def test_a_root_below_a_file_is_refused_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match=r"is not a usable folder .*MPA_STORE"):
        Store((tmp_path / "file" / "store").as_uri())


def test_a_copy_shares_its_bytes_until_the_source_is_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path.as_uri())
    store.write("pile/a.png", b"old")
    store.copy("pile/a.png", "jobs/j/a.png")
    assert (tmp_path / "pile/a.png").stat().st_ino == (tmp_path / "jobs/j/a.png").stat().st_ino
    store.write("pile/a.png", b"new")
    assert store.read("jobs/j/a.png") == b"old"


@pytest.mark.parametrize("code", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP])
def test_without_links_the_bytes_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_bytes(b"bytes")
    copy_file(tmp_path / "a", tmp_path / "folder" / "b")
    assert (tmp_path / "folder" / "b").read_bytes() == b"bytes"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["b"]


def test_a_source_that_is_gone_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        copy_file(tmp_path / "gone", tmp_path / "folder" / "b")
    assert list((tmp_path / "folder").iterdir()) == []
