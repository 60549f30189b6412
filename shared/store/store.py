"""Artifacts by URL (file, s3, gs, memory) through fsspec, published atomically.

Keys are relative paths with ``/``. A local store writes to a temporary name and renames it; on object stores a put is
atomic. Nothing here renames objects, so the same code is right for both. A listing must show every earlier write, as it
does on S3 and GCS.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

from shared.errors import InvalidInput, NotFound
from shared.files import TEMPORARY, create_file, replacing, write_file
from shared.store.local import LocalRoot, copy_file, remove, walk
from shared.store.remote import create_object, open_filesystem, read_object, typed_errors

Names = list[str]

_MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_KEY = re.compile(r"^[^/\x00][^\x00]*$")


@dataclass(frozen=True)
class Entry:
    """One object of a listing: size in bytes, last change in seconds since the epoch."""

    key: str
    bytes: int
    modified: float


class Store:
    """An artifact store rooted at ``url``. Methods are synchronous: call them through ``asyncio.to_thread`` in async
    code.

    Every method raises StorageUnavailable while the store is in trouble, and what was begun leaves nothing behind.
    """

    def __init__(self, url: str, cache_dir: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self._fs: Any
        self._fs, root = open_filesystem(self.url)
        self._root = root.rstrip("/")
        self._local = Path(self._root) if _is_local(self._fs) else None
        self._place = LocalRoot(self._local, self.url) if self._local is not None else None
        self._cache_dir = cache_dir
        self._guard = threading.Lock()
        self._downloads: WeakValueDictionary[Path, threading.Lock] = WeakValueDictionary()

    def url_of(self, key: str) -> str:
        return f"{self.url}/{_checked(key)}"

    def local_path(self, key: str) -> Path | None:
        """Where ``key`` lies on this machine, None if the store is remote."""
        return None if self._local is None else self._path(key)

    def exists(self, key: str) -> bool:
        try:
            with self._typed_errors():
                if self._local is not None:
                    self._path(key).stat()
                else:  # not the file system's exists(), which takes any missing file for the object
                    self._fs.info(self._full(key))
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False

    def read(self, key: str, at_most: int | None = None) -> bytes:
        """The bytes under ``key``, of a longer object only the first ``at_most``; raises NotFound."""
        try:
            with self._typed_errors():
                if self._local is None:
                    return read_object(self._fs, self._full(key), at_most)
                with self._path(key).open("rb") as file:
                    return file.read(-1 if at_most is None else at_most)
        except _MISSING as error:
            raise NotFound(f"{self.url_of(key)} does not exist in the artifact store.") from error

    @contextmanager
    def opened(self, key: str) -> Iterator[BinaryIO]:
        """The object as a file to seek in; raises NotFound. Of a remote one only what is read is fetched."""
        try:
            with self._typed_errors():
                path = None if self._local is None else self._path(key)
                with path.open("rb") if path else self._fs.open(self._full(key), "rb") as file:
                    yield file
        except _MISSING as error:
            raise NotFound(f"{self.url_of(key)} does not exist in the artifact store.") from error

    def write(self, key: str, data: bytes) -> None:
        """Publish ``data`` under ``key``: a reader sees the old bytes or the new, whole."""
        with self._writing():
            if self._local is not None:
                write_file(self._path(key), data)
            else:
                self._fs.pipe_file(self._full(key), data)

    def create(self, key: str, data: bytes) -> bool:
        """Publish ``data`` unless ``key`` exists; the first writer wins. Returns whether this call wrote.

        If a remote store's answer was lost, this call may have written although it returns False: read what is there.
        """
        with self._writing():
            if self._local is not None:
                return create_file(self._path(key), data)
            return create_object(self._fs, self._full(key), data)

    def copy(self, source: str, target: str) -> None:
        """Publish the bytes of ``source`` under ``target`` too, where possible without moving them; raises NotFound.

        Either may be deleted later without the other.
        """
        try:
            with self._writing():
                if self._local is not None:
                    copy_file(self._path(source), self._path(target))
                else:
                    self._fs.cp_file(self._full(source), self._full(target))
        except (FileNotFoundError, IsADirectoryError) as error:
            raise NotFound(f"{self.url_of(source)} does not exist in the artifact store.") from error

    def download(self, key: str, path: Path) -> None:
        """Copy the object under ``key`` to a local file, which appears whole or not at all; raises NotFound."""
        try:
            with self._typed_errors():
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as partial:
                    if self._local is not None:
                        shutil.copyfile(self._path(key), partial)
                    else:
                        self._fs.get_file(self._full(key), str(partial))
        except _MISSING as error:
            raise NotFound(f"{self.url_of(key)} does not exist in the artifact store.") from error

    def list(self, prefix: str) -> Names:
        """All keys below ``prefix``, sorted, without unfinished writes."""
        keys = (entry.key for entry in self.entries(prefix))
        return sorted(key for key in keys if not key.rpartition("/")[2].startswith(TEMPORARY))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """All objects below ``prefix``, including temporary files of unfinished writes, in no particular order."""
        if self._local is not None:
            yield from self._local_entries(self._path(prefix) if prefix else self._local, self._local)
            return
        root = self._fs._strip_protocol(self._root)
        with self._typed_errors():
            found = self._fs.find(self._full(prefix) if prefix else self._root, detail=True)
        for name, info in found.items():
            changed = info.get("LastModified") or info.get("mtime") or info["created"]
            modified = changed.timestamp() if isinstance(changed, datetime) else float(changed)
            yield Entry(str(name)[len(root) :].lstrip("/"), int(info["size"]), modified)

    def _local_entries(self, folder: Path, root: Path) -> Iterator[Entry]:
        with self._typed_errors():
            if not folder.is_dir():
                self._check()
            for path in walk(folder):
                try:
                    found = path.stat()
                except FileNotFoundError:  # deleted meanwhile
                    continue
                if stat.S_ISREG(found.st_mode):
                    # A copy is a link and keeps its source's mtime; making the link sets ctime.
                    changed_at = max(found.st_mtime, found.st_ctime)
                    yield Entry(path.relative_to(root).as_posix(), found.st_size, changed_at)

    def list_dirs(self, prefix: str) -> Names:
        """Names of the folders directly below ``prefix``, sorted."""
        depth = len([part for part in prefix.strip("/").split("/") if part])
        if self._local is not None:
            folder = self._path(prefix) if prefix else self._local
            with self._typed_errors():
                if folder.is_dir():
                    return sorted(p.name for p in folder.iterdir() if p.is_dir())
                self._check()
                return []
        parts = (key.split("/") for key in self.list(prefix))
        return sorted({p[depth] for p in parts if len(p) > depth + 1})

    def size(self, prefix: str) -> int:
        """Bytes below ``prefix``; 0 if it does not exist."""
        return sum(entry.bytes for entry in self.entries(prefix))

    def delete(self, prefix: str) -> None:
        """Remove ``prefix`` and all below it; nothing happens if it does not exist."""
        try:
            with self._typed_errors():
                if self._local is not None:
                    remove(self._path(prefix))
                else:
                    self._fs.rm(self._full(prefix), recursive=True)
        except (FileNotFoundError, NotADirectoryError):
            return

    def open_local(self, prefix: str) -> Path:
        """A local folder with the files below ``prefix``: in place on a local store, else a copy in the cache folder.

        Raises NotFound if there are none.
        """
        prefix = _checked(prefix)
        keys = self.list(prefix)
        if not keys:
            raise NotFound(f"{self.url_of(prefix)} holds no files in the artifact store.")
        if self._local is not None:
            return self._path(prefix)
        folder = self.local_copy(prefix)
        for key in keys:
            path = folder / key[len(prefix) + 1 :]
            with self._download_lock(path), suppress(NotFound):  # deleted since it was listed
                self._fetch(key, path)
        return folder

    def _download_lock(self, path: Path) -> threading.Lock:
        """One for each file, so that threads download it once. Between processes, renaming keeps it whole."""
        with self._guard:
            return self._downloads.setdefault(path, threading.Lock())

    def local_copy(self, prefix: str) -> Path:
        """Where ``open_local`` of a remote store puts, or has put, its copy."""
        if self._cache_dir is None:
            raise InvalidInput(f"The remote store {self.url} needs a local cache folder: set MPA_DATA_DIR.")
        return self._cache_dir / hashlib.sha256(self.url.encode()).hexdigest()[:12] / _checked(prefix)

    def publish_dir(self, folder: Path, prefix: str, last: str | None = None) -> None:
        """Copy all files of ``folder`` below ``prefix``; the file named ``last`` goes last, as the commit marker."""
        files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        ordered: Iterable[str] = sorted(files, key=lambda name: name == last)
        for name in ordered:
            self._publish_file(folder / name, f"{prefix.rstrip('/')}/{name}")

    def _fetch(self, key: str, path: Path) -> None:
        """Download, unless the file is there: published files never change, so an equal size means that it is whole."""
        try:
            with self._typed_errors():
                if path.exists() and path.stat().st_size == self._fs.size(self._full(key)):
                    return
        except FileNotFoundError as error:
            raise NotFound(f"{self.url_of(key)} does not exist in the artifact store.") from error
        self.download(key, path)

    def _publish_file(self, source: Path, key: str) -> None:
        with self._writing():
            if self._local is None:
                self._fs.put_file(str(source), self._full(key))
                return
            self._path(key).parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path(key)) as partial:
                shutil.copyfile(source, partial)

    def _typed_errors(self) -> AbstractContextManager[None]:
        return typed_errors(self.url) if self._place is None else self._place.typed_errors()

    def _check(self) -> None:
        if self._place is not None:
            self._place.check()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._typed_errors():
            self._check()
            yield
        if self._place is not None:
            self._place.wrote()

    def _full(self, key: str) -> str:
        return f"{self._root}/{_checked(key)}"

    def _path(self, key: str) -> Path:
        assert self._local is not None
        return self._local / _checked(key)


def _checked(key: str) -> str:
    key = key.rstrip("/")
    if not _KEY.match(key) or ".." in key.split("/"):
        raise InvalidInput(f"{key!r} is not a valid artifact key: use a relative path without '..'.")
    return key


def _is_local(fs: Any) -> bool:
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    return protocol in ("file", "local")
