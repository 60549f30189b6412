"""Reads the images of a pile by what a manifest calls them: a local path, an artifact's URL, or an http(s) URL.

Every failure is an UnreadableImage with the reason in words, because one bad image must never stop a job.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from urllib.parse import urljoin, urlsplit

import fsspec
import httpx

from shared.errors import MPAError
from shared.images import UnreadableImage
from shared.store import Store

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
MAX_REDIRECTS = 3
WEB_SCHEMES = ("http://", "https://")


class ImageFiles:
    """``roots``: folders that paths must lie in once links are resolved (None: any). Safe to use from threads."""

    def __init__(
        self,
        store: Store,
        *,
        roots: Sequence[Path] | None,
        max_bytes: int,
        allow_urls: bool,
        allow_private_urls: bool = False,
        timeout: float = 30.0,
    ) -> None:
        self._store = store
        self._roots = None if roots is None else [root.resolve() for root in (*roots, *_uploads_of(store))]
        self._max_bytes = max_bytes
        self._allow_urls, self._allow_private = allow_urls, allow_private_urls
        self._http = httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def read(self, image: str) -> bytes:
        """The image's file bytes; raises UnreadableImage."""
        if image.startswith(WEB_SCHEMES):
            return self._fetch(image)
        if image.startswith(f"{self._store.url}/"):
            return self._artifact(image[len(self._store.url) + 1 :])
        return self._file(Path(image))

    def _file(self, path: Path) -> bytes:
        try:
            resolved = path.resolve(strict=True)
            if self._roots is not None and not any(resolved.is_relative_to(root) for root in self._roots):
                raise UnreadableImage(f"{path} leads outside the allowed folders (MPA_IMAGE_ROOTS).")
            if not resolved.is_file():
                raise UnreadableImage(f"{path} is not a file.")
            with resolved.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > self._max_bytes:
                    raise self._too_large(size)
                return file.read(self._max_bytes + 1)
        except FileNotFoundError as error:
            raise UnreadableImage(f"{path} does not exist (any more).") from error
        except OSError as error:
            raise UnreadableImage(f"{path} cannot be read: {error.strerror or error}.") from error

    def _artifact(self, key: str) -> bytes:
        try:
            return self._store.read(key)
        except (MPAError, OSError) as error:
            raise UnreadableImage(f"The artifact cannot be read: {error}.") from error

    def _fetch(self, url: str) -> bytes:
        if not self._allow_urls:
            raise UnreadableImage(f"{url} is a URL, and those are not allowed here (MPA_ALLOW_IMAGE_URLS).")
        try:
            for _ in range(MAX_REDIRECTS + 1):
                data, location = self._get(url)
                if location is None:
                    return data
                url = urljoin(url, location)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise UnreadableImage(f"{url} cannot be fetched: {type(error).__name__}: {error}.") from error
        raise UnreadableImage(f"{url} redirects more than {MAX_REDIRECTS} times.")

    def _get(self, url: str) -> tuple[bytes, str | None]:
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
            return self._body(response), None
        finally:
            response.close()

    def _body(self, response: httpx.Response) -> bytes:
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > self._max_bytes:
                raise self._too_large(len(data))
        return bytes(data)

    def _address(self, host: str, port: int) -> str:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        if not self._allow_private and not all(ipaddress.ip_address(a.split("%")[0]).is_global for a in addresses):
            raise UnreadableImage(f"{host} is a private address, and those are not fetched from.")
        return addresses[0]

    def _too_large(self, size: int) -> UnreadableImage:
        return UnreadableImage(
            f"The file has at least {size} bytes, more than the limit of {self._max_bytes} (MPA_MAX_IMAGE_BYTES)."
        )


def local_path(store: Store, key: str) -> Path | None:
    """Where an artifact lies on this machine, None if the store is remote."""
    filesystem, path = fsspec.core.url_to_fs(store.url_of(key))
    return Path(path) if "file" in filesystem.protocol else None


def _uploads_of(store: Store) -> list[Path]:
    folder = local_path(store, "uploads")
    return [] if folder is None else [folder]
