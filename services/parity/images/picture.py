"""An image as it is sent to the models: checked, hashed, and encoded once for all questions about it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

from shared.contracts import Split
from shared.images import ImageLimits
from shared.images.wire import prepare_image


@dataclass(frozen=True)
class Picture:
    """``sha256``: of the file's bytes. ``url``: the data URL that is sent. ``note``: as in ``Decoded``.

    ``rank``: of all calls about it. Pictures that came first are finished first, while a server still caches them.
    """

    sha256: str
    url: str
    note: str = ""
    rank: float = field(default_factory=time.monotonic)


def prepare(data: bytes, limits: ImageLimits) -> Picture:
    """Raises UnreadableImage."""
    sent = prepare_image(data, limits)
    return Picture(digest(data), sent.url, sent.note)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def split_of(content: str, seed: int, held_out_fraction: float) -> Split:
    """The split of an image, by the hash of its content: equal images are never in both splits."""
    drawn = int.from_bytes(hashlib.sha256(f"{seed}:{content}".encode()).digest()[:8], "big") / 2**64
    return Split.HELD_OUT if drawn < held_out_fraction else Split.TRAIN


def derive_seed(job_seed: int, *parts: object) -> int:
    """A sampling seed (31 bits) that depends on the job's seed and on what is asked, not on the time or the worker."""
    text = ":".join([str(job_seed), *(str(part) for part in parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
