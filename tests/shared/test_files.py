"""Files that appear whole, are created once, and are locked between processes."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.files import create_file, locked, replacing, write_file

HOLD = "import sys; print('held', flush=True); sys.stdin.read()"


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a"
    write_file(path, b"old")
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_replacement_leaves_the_old_file_only(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_file(path, b"old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"ne")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_one_creator_wins(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: create_file(path, b"%d" % n), range(8)))
    assert won.count(True) == 1
    assert path.read_bytes() == b"%d" % won.index(True)
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_held_until_the_last_process_that_inherited_it_ends(tmp_path: Path) -> None:
    path, refusal = tmp_path / "lock", RuntimeError("another process works here")
    with locked(path, 0, refusal) as descriptor:
        with pytest.raises(RuntimeError, match="works here"), locked(path, 0.2, refusal):
            pass
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[descriptor]
        )
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
    with pytest.raises(RuntimeError, match="works here"), locked(path, 0, refusal):
        pass
    child.communicate()
    with locked(path, 10, refusal):
        pass
