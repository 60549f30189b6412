"""A store in a folder whose disk is full, read-only or away: what it says, and that nothing stays behind."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from shared.errors import NotFound, StorageUnavailable
from shared.store import Store
from tests.small_disk import Disk

Call = Callable[[Store], object]
BIG = bytes(2 << 20)


@pytest.fixture
def store(small_disk: Disk) -> Store:
    store = Store(f"file://{small_disk.folder}/store")
    store.write("jobs/a/spec.json", b"a")
    return store


def files(store: Store) -> list[str]:
    return sorted(entry.key for entry in store.entries(""))


@pytest.fixture
def big_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "big"
    folder.mkdir()
    (folder / "a.bin").write_bytes(BIG)
    return folder


WRITES: dict[str, Call] = {
    "write": lambda store: store.write("jobs/b/spec.json", BIG),
    "create": lambda store: store.create("jobs/b/spec.json", BIG),
    "replace": lambda store: store.write("jobs/a/spec.json", BIG),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_full_disk_is_told_and_leaves_nothing(store: Store, name: str) -> None:
    with pytest.raises(StorageUnavailable, match=r"The artifact store file://.* is full: free some space") as refused:
        WRITES[name](store)
    assert refused.value.retry_after is not None
    assert files(store) == ["jobs/a/spec.json"]
    assert store.read("jobs/a/spec.json") == b"a"


def test_a_folder_that_does_not_fit_leaves_no_part_of_a_file(store: Store, big_folder: Path) -> None:
    with pytest.raises(StorageUnavailable, match="is full"):
        store.publish_dir(big_folder, "uploads/u")
    assert files(store) == ["jobs/a/spec.json"]


def test_a_disk_that_has_room_again_is_written(store: Store, small_disk: Disk) -> None:
    small_disk.fill()
    with pytest.raises(StorageUnavailable):
        store.create("jobs/b/spec.json", bytes(10_000))
    small_disk.free()
    assert store.create("jobs/b/spec.json", bytes(10_000))
    assert files(store) == ["jobs/a/spec.json", "jobs/b/spec.json"]


CHANGES: dict[str, Call] = {
    "write": lambda store: store.write("jobs/b/spec.json", b"1"),
    "create": lambda store: store.create("jobs/b/spec.json", b"1"),
    "copy": lambda store: store.copy("jobs/a/spec.json", "jobs/c/spec.json"),
    "delete a folder": lambda store: store.delete("jobs/a"),
    "delete a file": lambda store: store.delete("jobs/a/spec.json"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_read_only_disk_is_told_and_read(store: Store, small_disk: Disk, name: str) -> None:
    with small_disk.read_only():
        with pytest.raises(StorageUnavailable, match="is read-only: mount it"):
            CHANGES[name](store)
        assert store.read("jobs/a/spec.json") == b"a"
    assert files(store) == ["jobs/a/spec.json"]
    CHANGES[name](store)


USES: dict[str, Call] = {
    **CHANGES,
    "read": lambda store: store.read("jobs/a/spec.json"),
    "exists": lambda store: store.exists("jobs/a/spec.json"),
    "open": lambda store: store.opened("jobs/a/spec.json").__enter__(),
    "list": lambda store: store.list("jobs"),
    "list folders": lambda store: store.list_dirs("jobs"),
    "open a folder": lambda store: store.open_local("jobs/a"),
    "size": lambda store: store.size("jobs"),
}


@contextmanager
def moved_away(folder: Path) -> Iterator[None]:
    folder.rename(folder.with_suffix(".away"))
    yield
    assert not folder.exists(), "a store that is away must not be begun anew"
    folder.with_suffix(".away").rename(folder)


@contextmanager
def an_empty_mount_point(folder: Path) -> Iterator[None]:
    folder.rename(folder.with_suffix(".away"))
    folder.mkdir()
    yield
    assert list(folder.iterdir()) == []
    folder.rmdir()
    folder.with_suffix(".away").rename(folder)


@pytest.mark.parametrize("gone", [moved_away, an_empty_mount_point])
@pytest.mark.parametrize("name", [name for name in USES if not name.startswith("delete")])
def test_a_store_that_is_away_is_not_an_empty_store(
    tmp_path: Path, name: str, gone: Callable[[Path], AbstractContextManager[None]]
) -> None:
    store = Store(f"file://{tmp_path}/store")
    store.write("jobs/a/spec.json", b"a")
    with gone(tmp_path / "store"), pytest.raises(StorageUnavailable, match="is away"):
        USES[name](store)
    assert files(store) == ["jobs/a/spec.json"]
    USES[name](store)


def test_a_store_that_was_unmounted_goes_on_when_it_is_mounted_again(small_disk: Disk) -> None:
    store = Store(f"file://{small_disk.folder}")
    store.write("jobs/a/spec.json", b"a")
    with small_disk.unmounted():
        with pytest.raises(StorageUnavailable, match="is away"):
            store.read("jobs/a/spec.json")
        with pytest.raises(StorageUnavailable, match="is away"):
            store.write("jobs/b/spec.json", b"b")
        assert list(small_disk.folder.iterdir()) == []
    store.write("jobs/b/spec.json", b"b")
    assert store.exists("jobs/b/spec.json")


def test_a_store_that_was_emptied_is_empty(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}/store")
    store.write("jobs/a/spec.json", b"a")
    shutil.rmtree(tmp_path / "store" / "jobs")
    assert store.list("") == []
    with pytest.raises(NotFound):
        store.read("jobs/a/spec.json")


def test_a_limit_of_file_sizes_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}/store")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StorageUnavailable, match="takes no file of this size"):
            store.create("jobs/a/spec.json", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(store) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_refuses_access_is_trouble_and_not_an_empty_one(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}/store")
    store.write("jobs/a/spec.json", b"a")
    (tmp_path / "store" / "jobs").chmod(0)
    for use in USES.values():
        with pytest.raises(StorageUnavailable, match="refuses access"):
            use(store)
    (tmp_path / "store" / "jobs").chmod(0o700)
