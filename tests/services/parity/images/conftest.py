"""A folder and a store with images, notes and hidden files."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.store import Store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "deep/c.webp", "notes.txt", ".hidden.png"):
        (folder / name).write_bytes(b"x")
    return folder


@pytest.fixture
def pile_in_store(tmp_path: Path) -> Store:
    """A store with a pile: outside the allowed folders, so that only its URLs lead to it."""
    store = Store((tmp_path / "store").as_uri())
    for name in ("b.png", "a.JPG", "deep/c.webp", "deep/er/d.png", "notes.txt", ".hidden.png"):
        store.write(f"piles/may/{name}", b"x")
    store.write("piles/june/e.png", b"x")
    return store
