"""The artifact store: atomic publish, first writer wins, safe keys; on a local folder and on an in-memory
filesystem.
"""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInput, NotFound
from shared.store import Store


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "file":
        return Store((tmp_path / "store").as_uri())
    return Store(f"memory://{uuid.uuid4().hex}", cache_dir=tmp_path / "cache")


def test_write_then_read_and_overwrite(store: Store) -> None:
    store.write("jobs/a/spec.json", b"one")
    store.write("jobs/a/spec.json", b"two")
    assert store.read("jobs/a/spec.json") == b"two"
    assert store.exists("jobs/a/spec.json")


def test_of_a_long_object_the_beginning_is_read(store: Store) -> None:
    store.write("a/b", b"0123456789")
    store.write("a/none", b"")
    assert [store.read("a/b", at_most=n) for n in (4, 10, 99)] == [b"0123", b"0123456789", b"0123456789"]
    assert store.read("a/none", at_most=4) == b""
    with pytest.raises(NotFound, match="a/c"):
        store.read("a/c", at_most=4)


def test_missing_key_names_its_url(store: Store) -> None:
    with pytest.raises(NotFound, match="jobs/nothing"):
        store.read("jobs/nothing")


def test_create_lets_the_first_writer_win(store: Store) -> None:
    assert store.create("jobs/a/claim", b"first") is True
    assert store.create("jobs/a/claim", b"second") is False
    assert store.read("jobs/a/claim") == b"first"


def test_a_copy_outlives_its_source_and_later_writes(store: Store) -> None:
    store.write("pile/a.png", b"1")
    store.copy("pile/a.png", "jobs/1/a.png")
    store.copy("pile/a.png", "jobs/1/a.png")  # again, as after a crash
    store.write("pile/a.png", b"2")
    store.delete("pile")
    assert store.read("jobs/1/a.png") == b"1"
    assert store.list("") == ["jobs/1/a.png"]
    with pytest.raises(NotFound, match=r"pile/a\.png"):
        store.copy("pile/a.png", "jobs/2/a.png")
    assert store.list("jobs/2") == []


def test_list_and_list_dirs(store: Store) -> None:
    for key in ("jobs/b/spec.json", "jobs/a/spec.json", "jobs/a/set/shard-00000.parquet", "other/x"):
        store.write(key, b"x")
    assert store.list("jobs") == ["jobs/a/set/shard-00000.parquet", "jobs/a/spec.json", "jobs/b/spec.json"]
    assert store.list_dirs("jobs") == ["a", "b"]
    assert store.list("none") == []
    assert store.list_dirs("none") == []


def test_delete_removes_a_whole_prefix_only(store: Store) -> None:
    store.write("jobs/a/spec.json", b"x")
    store.write("jobs/ab/spec.json", b"x")
    store.delete("jobs/a")
    store.delete("jobs/never")
    assert store.list("jobs") == ["jobs/ab/spec.json"]


def test_publish_dir_and_open_local(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "folder"
    (source / "sub").mkdir(parents=True)
    (source / "a.txt").write_text("a")
    (source / "sub" / "b.txt").write_text("b")
    (source / "card.json").write_text("{}")
    store.publish_dir(source, "checkpoints/student/v1", last="card.json")
    local = store.open_local("checkpoints/student/v1")
    assert sorted(p.relative_to(local).as_posix() for p in local.rglob("*.*")) == ["a.txt", "card.json", "sub/b.txt"]


def test_open_local_of_nothing_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        store.open_local("checkpoints/none")


@pytest.mark.parametrize("key", ["/etc/passwd", "a/../../b", "..", "a\x00b", ""])
def test_keys_cannot_leave_the_store(store: Store, key: str) -> None:
    with pytest.raises(InvalidInput, match="is not a valid artifact key"):
        store.write(key, b"x")


@given(st.binary(max_size=2000))
def test_any_bytes_come_back(data: bytes) -> None:
    store = Store(f"memory://{uuid.uuid4().hex}")
    store.write("k", data)
    assert store.read("k") == data


def test_a_reader_never_sees_half_a_write(tmp_path: Path) -> None:
    store = Store(tmp_path.as_uri())
    versions = [bytes([n]) * 200_000 for n in range(8)]
    store.write("k", versions[0])
    torn: list[int] = []
    done = threading.Event()

    def read_on() -> None:
        while not done.is_set():
            if store.read("k") not in versions:
                torn.append(1)

    reader = threading.Thread(target=read_on)
    reader.start()
    for data in versions * 5:
        store.write("k", data)
    done.set()
    reader.join()
    assert torn == []
    assert [p.name for p in tmp_path.iterdir()] == ["k"]
