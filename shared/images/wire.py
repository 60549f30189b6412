"""An image file as it is sent to a model: as it is where every server reads it alike, else encoded again."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.images.decode import ImageLimits, decode, has_more_frames, to_data_url
from shared.images.formats import FORMATS

if TYPE_CHECKING:  # Pillow is imported on first use: the command line is installed without it
    from PIL import Image

_LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "HEIF")
_PLAIN = ("PNG", "JPEG", "MPO", "WEBP")
_LARGE = 2_000_000
"""Pixels. As PNG, larger photos would not fit into a request."""
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class WireImage:
    """``url``: the data URL that is sent. ``note``: as in ``Decoded``."""

    image: Image.Image
    url: str
    note: str = ""


def prepare_image(data: bytes, limits: ImageLimits) -> WireImage:
    """Raises UnreadableImage. What servers may decode differently (rotation, transparency, animations, CMYK, HEIC, 16
    bits) is encoded again from the pixels that our decoder found: as PNG, or as JPEG if it was a large photo.
    """
    decoded = decode(data, limits)
    plain, lossy = _look(data)
    if plain:
        return WireImage(decoded.image, to_data_url(data), decoded.note)
    bare = decoded.image.copy()
    bare.info = {}
    buffer = io.BytesIO()
    if lossy and bare.width * bare.height > _LARGE:
        bare.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        bare.save(buffer, "PNG")
    return WireImage(decoded.image, to_data_url(buffer.getvalue()), decoded.note)


def _look(data: bytes) -> tuple[bool, bool]:
    """Whether all servers read the file alike, and whether its format is for photos."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=FORMATS) as header:
        plain = (
            header.format in _PLAIN
            and not has_more_frames(header)
            and header.mode in ("RGB", "L")
            and header.getexif().get(_ORIENTATION, 1) == 1
            and header.info.get("transparency") is None
        )
        return plain, header.format in _LOSSY
