"""What sources leave out: one rule for folders, patterns, prefixes of the store and uploads, and a count by reason."""

from __future__ import annotations

from pathlib import PurePosixPath

from services.parity.images.access import UNWRITABLE
from shared.contracts import LeftOut
from shared.images.formats import IMAGE_SUFFIXES
from shared.images.tables import TABLE_SUFFIXES

MOST_REASONS = 20
"""At most this many reasons are counted apart, because files may have any number of extensions."""
_CLUTTER = frozenset(
    {
        "__macosx",
        "__pycache__",
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "@tmp",
        "#recycle",
        "#snapshot",
        "~snapshot",
        "$recycle.bin",
        "recycler",
        "lost+found",
        "system volume information",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
    }
)
"""What systems and network drives put among a user's files; names that begin with a dot are left out too."""
_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"})


def why_left_out(name: str, tables: bool = False) -> str | None:
    """The reason not to take a file, by its path below the source (with ``/``); None if it is an image to take.

    ``tables``: Parquet, Arrow and JSONL files are taken too.
    """
    for part in PurePosixPath(name).parts:
        if part not in ("/", "..") and (part.startswith(".") or part.lower() in _CLUTTER):
            return (
                f"hidden or a system's own ({printable(part)})" if part != PurePosixPath(name).name else "hidden file"
            )
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _ARCHIVES:
        return f"archive ({suffix}): unpack it"
    if suffix not in IMAGE_SUFFIXES and not (tables and suffix in TABLE_SUFFIXES):
        return f"not an image format that is read ({printable(suffix)[:20] or 'no ending'})"
    if UNWRITABLE.search(name):
        return "name is not UTF-8: rename it"
    return None


def printable(name: str) -> str:
    """``name`` with its bytes that are not UTF-8 written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


class LeftOutCount:
    """Counts files by reason and keeps the first of each as an example."""

    def __init__(self) -> None:
        self._found: dict[str, LeftOut] = {}

    def takes(self, name: str, tables: bool = False) -> bool:
        """Whether the file is to be taken; else it is counted."""
        reason = why_left_out(name, tables)
        if reason is not None:
            self.add(reason, name)
        return reason is None

    def add(self, reason: str, example: str, files: int = 1) -> None:
        if reason not in self._found and len(self._found) >= MOST_REASONS:
            reason = "other reasons"
        known = self._found.get(reason)
        if known is None:
            self._found[reason] = LeftOut(reason=reason, files=files, example=printable(example)[-200:])
        else:
            self._found[reason] = known.model_copy(update={"files": known.files + files})

    def reasons(self) -> list[LeftOut]:
        """The most frequent first."""
        return sorted(self._found.values(), key=lambda one: (-one.files, one.reason))

    def words(self) -> str:
        """For an error; empty if nothing was left out."""
        return "; ".join(f"{one.files} × {one.reason}, such as {one.example}" for one in self.reasons()[:5])
