"""Images by path and artifact: nothing outside the rules is read, and every failure has a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.images import UnreadableImage
from shared.images.files import ImageFiles
from shared.store import Store


@pytest.fixture
def store(tmp_store_url: str) -> Store:
    return Store(tmp_store_url)


def files(store: Store, root: Path, urls: bool = True, private: bool = True) -> ImageFiles:
    return ImageFiles(store, roots=[root], max_bytes=50, allow_urls=urls, allow_private_urls=private, timeout=10)


def test_paths_must_lie_in_the_roots(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.png").write_bytes(b"inside")
    (tmp_path / "secret.png").write_bytes(b"outside")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "large.png").write_bytes(b"x" * 51)
    with files(store, root) as reader:
        assert reader.read(str(root / "a.png")) == b"inside"
        for name, words in {
            "link.png": "outside the allowed",
            "../secret.png": "outside the allowed",
            "none.png": "does not exist",
            "large.png": "limit of 50",
            ".": "is not a file",
            "nul\0.png": "cannot be read",
        }.items():
            with pytest.raises(UnreadableImage, match=words):
                reader.read(str(root / name))


def test_artifacts_are_read_from_the_store(tmp_path: Path) -> None:
    store = Store("memory://artifacts")
    store.write("uploads/u/0.png", b"bytes")
    with files(store, tmp_path) as reader:
        assert reader.read(store.url_of("uploads/u/0.png")) == b"bytes"
        with pytest.raises(UnreadableImage, match="does not exist"):
            reader.read(store.url_of("uploads/u/1.png"))
        store.write("uploads/u/2.png", b"x" * 51)
        with pytest.raises(UnreadableImage, match="limit of 50"):
            reader.read(store.url_of("uploads/u/2.png"))


def test_urls_need_leave(store: Store, tmp_path: Path) -> None:
    with files(store, tmp_path, urls=False) as reader, pytest.raises(UnreadableImage, match="not allowed here"):
        reader.read("http://127.0.0.1:1/a.png")
