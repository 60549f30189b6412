"""Images by http(s) URL: bounded in size, time and redirects, and never from a private address unless allowed."""

from __future__ import annotations

import ipaddress
import socket
import time
from typing import Self
from urllib.parse import urljoin, urlsplit

import httpx

from shared.images import UnreadableImage

MAX_REDIRECTS = 3
WEB_SCHEMES = ("http://", "https://")


class WebImages:
    """Fetches image files. Safe to use from threads. Every failure is an UnreadableImage with the reason in words."""

    def __init__(self, *, max_bytes: int, allow_private: bool = False, timeout: float = 30.0) -> None:
        """``timeout``: seconds for a whole image, however slowly its bytes drip."""
        self._max_bytes, self._allow_private, self._timeout = max_bytes, allow_private, timeout
        self._http = httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def fetch(self, url: str) -> bytes:
        """The file's bytes; raises UnreadableImage."""
        deadline = time.monotonic() + self._timeout
        try:
            for _ in range(MAX_REDIRECTS + 1):
                data, location = self._get(url, deadline)
                if location is None:
                    return data
                url = urljoin(url, location)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise UnreadableImage(f"{url} cannot be fetched: {type(error).__name__}: {error}.") from error
        raise UnreadableImage(f"{url} redirects more than {MAX_REDIRECTS} times.")

    def _get(self, url: str, deadline: float) -> tuple[bytes, str | None]:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UnreadableImage(f"{url} is no http or https URL.")
        # The address that was checked is the one connected to: a second look-up could answer a private one.
        address = self._address(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        host = parts.netloc.rpartition("@")[2]
        target = httpx.URL(url).copy_with(host=address)
        request = self._http.build_request(
            "GET", target, headers={"Host": host}, extensions={"sni_hostname": parts.hostname}
        )
        response = self._http.send(request, stream=True)
        try:
            if response.is_redirect:
                return b"", response.headers["Location"]
            if response.status_code != 200:
                raise UnreadableImage(f"{url} answered {response.status_code}.")
            return self._body(url, response, deadline), None
        finally:
            response.close()

    def _body(self, url: str, response: httpx.Response, deadline: float) -> bytes:
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > self._max_bytes:
                raise UnreadableImage(
                    f"The file has at least {len(data)} bytes, more than the limit of {self._max_bytes} "
                    "(MPA_MAX_IMAGE_BYTES)."
                )
            if time.monotonic() > deadline:
                raise UnreadableImage(f"{url} was not complete after {self._timeout:.0f} s.")
        return bytes(data)

    def _address(self, host: str, port: int) -> str:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        if not self._allow_private and not all(ipaddress.ip_address(a.split("%")[0]).is_global for a in addresses):
            raise UnreadableImage(f"{host} is a private address, and those are not fetched from.")
        return addresses[0]
