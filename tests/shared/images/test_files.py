"""Images by path, artifact and URL: nothing outside the rules is read, and every failure has a reason."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.responses import RedirectResponse, Response

from shared.images import UnreadableImage
from shared.images.files import ImageFiles
from shared.store import Store
from tests.polling import wait_until
from tests.quick_server import ServerThread
from tests.slow_sender import slow_sender


@pytest.fixture
def store(tmp_store_url: str) -> Store:
    return Store(tmp_store_url)


@pytest.fixture
def web() -> Iterator[str]:
    app = FastAPI()
    app.get("/a.png")(lambda: Response(b"bytes"))
    app.get("/large.png")(lambda: Response(b"x" * 100))
    app.get("/moved.png")(lambda: RedirectResponse("/a.png"))
    app.get("/inside.png")(lambda: RedirectResponse("file:///etc/passwd"))
    app.get("/loop.png")(lambda: RedirectResponse("/loop.png"))
    server = ServerThread(app)
    yield server.url
    server.stop()


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


def test_urls_are_fetched_within_limits(store: Store, tmp_path: Path, web: str) -> None:
    with files(store, tmp_path) as reader:
        assert reader.read(f"{web}/a.png") == b"bytes"
        assert reader.read(f"{web}/moved.png") == b"bytes"
        for name, words in {
            "large.png": "limit of 50",
            "none.png": "answered 404",
            "inside.png": "no http or https",
            "loop.png": "redirects more than",
        }.items():
            with pytest.raises(UnreadableImage, match=words):
                reader.read(f"{web}/{name}")


def test_a_fetch_ends_when_its_reader_closes(store: Store, tmp_path: Path) -> None:
    with slow_sender() as url, ThreadPoolExecutor(2) as pool:
        reader = files(store, tmp_path)
        fetches = [pool.submit(reader.read, f"{url}/{path}") for path in ("headers", "body.png")]
        wait_until(lambda: reader._web._loop is not None and len(asyncio.all_tasks(reader._web._loop)) == 2, 10)
        reader.close()
        for fetch in fetches:
            with pytest.raises(UnreadableImage, match="shutting down"):
                fetch.result(10)


def test_urls_and_private_addresses_need_leave(store: Store, tmp_path: Path, web: str) -> None:
    with files(store, tmp_path, urls=False) as reader, pytest.raises(UnreadableImage, match="not allowed here"):
        reader.read(f"{web}/a.png")
    with files(store, tmp_path, private=False) as reader, pytest.raises(UnreadableImage, match="private address"):
        reader.read(f"{web}/a.png")
