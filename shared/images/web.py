"""Images by http(s) URL: bounded in size, time and redirects, and never from a private address unless allowed."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from concurrent.futures import CancelledError
from typing import Self
from urllib.parse import urljoin, urlsplit

import httpx

from shared.images.errors import UnreadableImage

MAX_REDIRECTS = 3
WEB_SCHEMES = ("http://", "https://")


class ImageTimeout(UnreadableImage):
    """The image did not arrive in time. A later attempt may succeed."""

    slug, title = "image-timeout", "The image did not come in time"


class WebImages:
    """Fetches image files. Safe to use from threads. Every failure is an UnreadableImage with the reason in words.

    All fetches run on one thread with an event loop, because only there can a deadline cover a whole fetch: the
    timeouts of a blocking client start again with every byte from a slow sender.
    """

    def __init__(self, *, max_bytes: int, allow_private: bool = False, timeout: float = 30.0) -> None:
        """``timeout``: seconds for a whole image, from the look-up of its host to its last byte."""
        self._max_bytes, self._allow_private, self._timeout = max_bytes, allow_private, timeout
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http: httpx.AsyncClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel all fetches and close the connections; a later fetch opens new ones."""
        with self._lock:
            loop, http, self._loop, self._http = self._loop, self._http, None, None
        if loop is not None and http is not None:
            asyncio.run_coroutine_threadsafe(_end(http), loop).result()
            loop.call_soon_threadsafe(loop.stop)

    def fetch(self, url: str) -> bytes:
        """The file's bytes; raises UnreadableImage, ImageTimeout if they take too long."""
        loop, http = self._started()
        try:
            return asyncio.run_coroutine_threadsafe(self._fetch(http, url), loop).result()
        except CancelledError as error:
            raise UnreadableImage(f"{url} was not fetched, because the service is shutting down.") from error

    def _started(self) -> tuple[asyncio.AbstractEventLoop, httpx.AsyncClient]:
        with self._lock:
            if self._loop is None or self._http is None:
                self._loop = asyncio.new_event_loop()
                self._http = httpx.AsyncClient(timeout=self._timeout, follow_redirects=False, trust_env=False)
                threading.Thread(target=_run, args=(self._loop,), name="web-images", daemon=True).start()
            return self._loop, self._http

    async def _fetch(self, http: httpx.AsyncClient, url: str) -> bytes:
        asked = url
        try:
            async with asyncio.timeout(self._timeout):
                for _ in range(MAX_REDIRECTS + 1):
                    data, location = await self._get(http, url)
                    if location is None:
                        return data
                    url = urljoin(url, location)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise ImageTimeout(f"{asked} was not complete after {self._timeout:g} s.") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise UnreadableImage(f"{url} cannot be fetched: {type(error).__name__}: {error}.") from error
        raise UnreadableImage(f"{url} redirects more than {MAX_REDIRECTS} times.")

    async def _get(self, http: httpx.AsyncClient, url: str) -> tuple[bytes, str | None]:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UnreadableImage(f"{url} is not an http or https URL.")
        # The address that was checked is the one connected to: a second look-up could answer a private one.
        address = await self._address(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        host = parts.netloc.rpartition("@")[2]
        target = httpx.URL(url).copy_with(host=address)
        request = http.build_request("GET", target, headers={"Host": host}, extensions={"sni_hostname": parts.hostname})
        response = await http.send(request, stream=True)
        try:
            if response.is_redirect:
                return b"", response.headers["Location"]
            if response.status_code != 200:
                raise UnreadableImage(f"{url} answered {response.status_code}.")
            return await self._body(response), None
        finally:
            await response.aclose()

    async def _body(self, response: httpx.Response) -> bytes:
        data = bytearray()
        async for chunk in response.aiter_bytes():
            data += chunk
            if len(data) > self._max_bytes:
                raise UnreadableImage(
                    f"The file has at least {len(data)} bytes, more than the limit of {self._max_bytes} "
                    "(MPA_MAX_IMAGE_BYTES)."
                )
        return bytes(data)

    async def _address(self, host: str, port: int) -> str:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        if not self._allow_private and not all(ipaddress.ip_address(a.split("%")[0]).is_global for a in addresses):
            raise UnreadableImage(f"{host} is a private address, and those are not fetched from.")
        return addresses[0]


async def _end(http: httpx.AsyncClient) -> None:
    fetches = asyncio.all_tasks() - {asyncio.current_task()}
    for fetch in fetches:
        fetch.cancel()
    await asyncio.gather(*fetches, return_exceptions=True)
    await http.aclose()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.close()
