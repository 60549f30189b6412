"""Images by URL: bounded in size, time and redirects, and never from a private address unless allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI
from fastapi.responses import RedirectResponse, Response

from shared.images import UnreadableImage
from shared.images.web import ImageTimeout, WebImages
from tests.polling import wait_until
from tests.quick_server import ServerThread
from tests.slow_sender import slow_sender


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


def images(private: bool = True, timeout: float = 10.0) -> WebImages:
    return WebImages(max_bytes=50, allow_private=private, timeout=timeout)


def test_urls_are_fetched_within_limits(web: str) -> None:
    with images() as reader:
        assert reader.fetch(f"{web}/a.png") == b"bytes"
        assert reader.fetch(f"{web}/moved.png") == b"bytes"
        for name, words in {
            "large.png": "limit of 50",
            "none.png": "answered 404",
            "inside.png": "not an http or https",
            "loop.png": "redirects more than",
        }.items():
            with pytest.raises(UnreadableImage, match=words):
                reader.fetch(f"{web}/{name}")


def test_a_fetch_ends_when_its_reader_closes() -> None:
    with slow_sender() as url, ThreadPoolExecutor(2) as pool:
        reader = images()
        fetches = [pool.submit(reader.fetch, f"{url}/{path}") for path in ("headers", "body.png")]
        wait_until(lambda: reader._loop is not None and len(asyncio.all_tasks(reader._loop)) == 2, 10)
        reader.close()
        for fetch in fetches:
            with pytest.raises(UnreadableImage, match="shutting down"):
                fetch.result(10)


def test_private_addresses_need_leave(web: str) -> None:
    with images(private=False) as reader, pytest.raises(UnreadableImage, match="private address"):
        reader.fetch(f"{web}/a.png")


def test_a_redirect_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch, web: str) -> None:
    """The first host counts as public here; where it sends the fetch is checked again."""
    asked: list[str] = []
    check = WebImages._address

    async def address(self: WebImages, host: str, port: int) -> str:
        asked.append(host)
        if len(asked) > 1:
            self._allow_private = False
        return await check(self, host, port)

    monkeypatch.setattr(WebImages, "_address", address)
    with images() as reader, pytest.raises(UnreadableImage, match=r"127\.0\.0\.1 is a private address"):
        reader.fetch(f"{web}/moved.png")
    assert len(asked) == 2


def test_a_slow_sender_is_given_up_after_the_timeout() -> None:
    with slow_sender() as url, images(timeout=0.2) as reader:
        for path in ("headers", "body.png"):
            with pytest.raises(ImageTimeout, match=r"was not complete after 0\.2 s"):
                reader.fetch(f"{url}/{path}")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/a.png", "http:///a.png", "a.png", "http://h:x/a.png"])
def test_what_is_not_an_address_on_the_web_is_refused(url: str) -> None:
    with images() as reader, pytest.raises(UnreadableImage):
        reader.fetch(url)


def test_a_closed_reader_can_be_used_again(web: str) -> None:
    reader = images()
    for _ in range(2):
        assert reader.fetch(f"{web}/a.png") == b"bytes"
        reader.close()
    reader.close()
