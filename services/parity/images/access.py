"""What image sources may name: local paths in the allowed folders, and URLs inside the artifact store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import Forbidden, InvalidInput
from shared.store import Store

_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://")
UNWRITABLE = re.compile("[\0\ud800-\udfff]")
"""Characters that a manifest cannot hold: NUL, and the surrogates that stand for bytes that are not UTF-8."""


@dataclass(frozen=True)
class SourceRules:
    """``roots``: the allowed folders of this machine; ``allow_urls``: whether manifests may name http(s) images."""

    roots: Sequence[Path]
    allow_urls: bool
    max_images: int


def allowed(path: Path, roots: Sequence[Path]) -> Path:
    """``path`` with links resolved; raises Forbidden if it is outside ``roots``, InvalidInput if it does not exist."""
    resolved = path.resolve()
    if not any(resolved.is_relative_to(root.resolve()) for root in roots):
        names = ", ".join(str(root.resolve()) for root in roots)
        raise Forbidden(
            f"{path} is outside the allowed image folders ({names}): move it there or extend MPA_IMAGE_ROOTS."
        )
    if not resolved.exists():
        raise InvalidInput(f"{path} does not exist on the machine that runs the parity service.")
    return resolved


def store_key(name: str, store: Store) -> str | None:
    """The key of a URL inside the store, empty for its root; None for a local path.

    Raises Forbidden for any other URL, InvalidInput for one that contains '..'.
    """
    if name != store.url and not name.startswith(f"{store.url}/"):
        if not _SCHEME.match(name):
            return None
        raise Forbidden(
            f"{name} is outside the artifact store {store.url} (MPA_STORE), and no other URLs are read: copy it "
            "there, or name a path on the machine of the parity service."
        )
    key = name[len(store.url) :].strip("/")
    if ".." in key.split("/"):
        raise InvalidInput(f"{name} contains '..': write the URL without it.")
    return key
