"""Read untrusted images safely: every limit is checked before pixels are decoded."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import InvalidInput, MPAError
from shared.settings import ImageSettings

if TYPE_CHECKING:  # Pillow is imported on first use: the command line is installed without it
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_MAGIC = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp", b"GIF8": "gif", b"BM": "bmp"}


class UnreadableImage(MPAError):
    """The bytes are not a usable image; ``detail`` gives the reason."""

    status, slug, title = 422, "unreadable-image", "The image cannot be read"


@dataclass(frozen=True)
class ImageLimits:
    """Largest file in bytes, largest width × height in pixels, shortest allowed side in pixels."""

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 50_000_000
    min_side: int = 2

    @classmethod
    def from_settings(cls, settings: ImageSettings) -> ImageLimits:
        return cls(int(settings.max_image_bytes), settings.max_image_pixels, settings.min_image_side)


def decode_image(data: bytes, limits: ImageLimits) -> Image.Image:
    """An RGB image (EXIF orientation applied, transparency on white) from file bytes.

    Raises UnreadableImage for empty, oversized, unknown, truncated, animated, CMYK and degenerate images.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not data:
        raise UnreadableImage("The file is empty (0 bytes).")
    if len(data) > limits.max_bytes:
        raise UnreadableImage(
            f"The file has {len(data)} bytes, more than the limit of {limits.max_bytes} (MPA_MAX_IMAGE_BYTES)."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_header(image, limits)
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"The bytes are not an image in a known format ({', '.join(FORMATS)}).") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"The image is too large to decode safely: {error}.") from error
    except Exception as error:  # decoders raise anything from OSError to IndexError on damaged files
        raise UnreadableImage(f"The image is damaged or truncated: {error}.") from error


def _check_header(image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise UnreadableImage(
            f"The image is {width}×{height} pixels, more than the limit of {limits.max_pixels} (MPA_MAX_IMAGE_PIXELS)."
        )
    if min(width, height) < limits.min_side:
        raise UnreadableImage(f"The image is {width}×{height} pixels: too small to ask anything about.")
    if getattr(image, "n_frames", 1) > 1:
        raise UnreadableImage(f"The image is animated ({getattr(image, 'n_frames', 0)} frames): submit single frames.")
    if image.mode == "CMYK":
        raise UnreadableImage("The image is CMYK, whose colours depend on a print profile: convert it to RGB.")


def _to_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        flat = Image.new("RGB", rgba.size, (255, 255, 255))
        flat.paste(rgba, mask=rgba.getchannel("A"))
        return flat
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return (
            image.convert("F")
            .point(lambda value: value / 257 if image.mode.startswith("I") else value)
            .convert("L")
            .convert("RGB")
        )
    return image.convert("RGB")


def image_kind(data: bytes) -> str | None:
    """``png``, ``jpeg``, ``webp``, ``gif`` or ``bmp``, by the first bytes; None for TIFF and unknown files."""
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)


def to_data_url(data: bytes) -> str:
    """``data:<type>;base64,…`` for image file bytes."""
    kind = image_kind(data)
    mime = f"image/{kind}" if kind else "application/octet-stream"
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def from_data_url(url: str) -> bytes:
    """The bytes of a base64 data URL; raises InvalidInput with what is wrong."""
    head, comma, body = url.partition(",")
    if not head.startswith("data:") or not comma:
        raise InvalidInput(f"The image URL {url[:40]!r}… is not a data URL: send data:image/png;base64,…")
    if not head.endswith(";base64"):
        raise InvalidInput(f"The image's data URL starts with {head[:60]!r}: only ;base64 data URLs are read.")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"The image's data URL is not valid base64: {error}.") from error
