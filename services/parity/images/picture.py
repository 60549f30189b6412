"""An image as it is sent to the models: checked, hashed, and encoded once for all questions about it."""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import dataclass, field

from PIL import Image

from shared.contracts import Split
from shared.images import ImageLimits, decode_image, to_data_url

WIRE_FORMATS = ("PNG", "JPEG", "WEBP")
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Picture:
    """``sha256``: of the file's bytes. ``url``: the data URL that is sent.

    ``rank``: of all calls about it. Pictures that came first are finished first, while a server still caches them.
    """

    sha256: str
    url: str
    rank: float = field(default_factory=time.monotonic)


def prepare(data: bytes, limits: ImageLimits) -> Picture:
    """Raises UnreadableImage. What servers may decode differently (rotation, transparency, BMP) becomes PNG."""
    image = decode_image(data, limits)
    if not _is_plain(data):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return Picture(digest(data), to_data_url(buffer.getvalue()))
    return Picture(digest(data), to_data_url(data))


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


def _is_plain(data: bytes) -> bool:
    with Image.open(io.BytesIO(data)) as header:
        upright = header.getexif().get(_ORIENTATION, 1) == 1
        return (
            header.format in WIRE_FORMATS
            and header.mode in ("RGB", "L")
            and upright
            and not header.info.get("transparency")
        )
