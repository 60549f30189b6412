"""Read untrusted images safely: every limit is checked before pixels are decoded."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

from shared.errors import InvalidInput
from shared.images.errors import UnreadableImage
from shared.images.formats import FORMATS, image_kind, other_kind
from shared.images.grey import is_deep_grey, to_8_bits
from shared.images.print_colours import to_screen
from shared.settings import ImageSettings

_MAIN_FIRST = ("MPO", "JPEG", "HEIF")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
_STANDARD_ALPHABET = str.maketrans("-_", "+/")
_PHOTOMETRIC, _SAMPLE_FORMAT, _SIGNED = 262, 339, 2
"""Tags of a TIFF. Pillow inverts what counts from white with 8 bits only."""

if TYPE_CHECKING:  # Pillow is imported on first use: the command line is installed without it
    from PIL import Image


@dataclass(frozen=True)
class ImageLimits:
    """Largest file in bytes, largest width × height in pixels, shortest allowed side in pixels."""

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 50_000_000
    min_side: int = 2

    @classmethod
    def from_settings(cls, settings: ImageSettings) -> ImageLimits:
        return cls(int(settings.max_image_bytes), settings.max_image_pixels, settings.min_image_side)


@dataclass(frozen=True)
class Decoded:
    """An RGB image. ``note``: what is read of a file that is not read whole and exactly; empty for other files."""

    image: Image.Image
    note: str = ""


def decode_image(data: bytes, limits: ImageLimits) -> Image.Image:
    """The image of ``decode``."""
    return decode(data, limits).image


def decode(data: bytes, limits: ImageLimits) -> Decoded:
    """An RGB image (EXIF orientation applied, transparency on white, more than 8 bits scaled) from file bytes.

    Of a phone's photo it is the main picture, of a TIFF the first page, of an animation the first frame. Raises
    UnreadableImage for empty, oversized, unknown, truncated and degenerate images.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not data:
        raise UnreadableImage("The file is empty (0 bytes).")
    if len(data) > limits.max_bytes:
        raise UnreadableImage(
            f"The file has {len(data)} bytes, more than the limit of {limits.max_bytes} (MPA_MAX_IMAGE_BYTES)."
        )
    _know_heif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_header(image, limits)
            negative = image.format == "TIFF" and is_deep_grey(image.mode) and _tag(image, _PHOTOMETRIC) == 0
            # Pillow reads unsigned 32-bit values into a mode that is signed.
            unsigned = image.format == "TIFF" and image.mode == "I" and _tag(image, _SAMPLE_FORMAT) != (_SIGNED,)
            left_out = _left_out(image)
            image.load()
            rgb, changed = _to_rgb(ImageOps.exif_transpose(image), unsigned=unsigned)
            note = ", ".join(filter(None, (left_out, changed)))
            return Decoded(ImageOps.invert(rgb) if negative else rgb, note)
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage(_unknown(data)) from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"The image is too large to decode safely: {error}.") from error
    except Exception as error:  # decoders raise anything from OSError to IndexError on damaged files
        raise UnreadableImage(f"The image is damaged or truncated: {error}.") from error


@cache
def _know_heif() -> None:
    """HEIC is not among Pillow's own formats. The package is a build of pillow-heif that decodes only."""
    from pi_heif import register_heif_opener  # type: ignore[import-untyped]

    register_heif_opener(thumbnails=False)


def _unknown(data: bytes) -> str:
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return (
            "The TIFF has a kind of pixel that is not read (such as colours in floats): save it with 8 bits a channel."
        )
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return "The HEIC or AVIF image is damaged or truncated."
    other, kind = other_kind(data), image_kind(data)
    if other is None and kind is not None:
        return f"The image is damaged or truncated: it begins like a {kind.upper()} file."
    words = f": it is {other}" if other else ""
    return f"The bytes are not an image in a known format ({', '.join(FORMATS)}){words}."


def _check_header(image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise UnreadableImage(
            f"The image is {width}×{height} pixels, more than the limit of {limits.max_pixels} (MPA_MAX_IMAGE_PIXELS)."
        )
    if min(width, height) < limits.min_side:
        raise UnreadableImage(f"The image is {width}×{height} pixels: too small to ask anything about.")
    if image.mode == "LAB":
        raise UnreadableImage("The image's colours are CIELAB, which is not read: convert it to RGB.")
    if image.format == "TIFF" and image.mode == "L" and _tag(image, _SAMPLE_FORMAT) == (_SIGNED,):
        raise UnreadableImage("The TIFF has signed 8-bit values, which are not read: save it as 16 bits or unsigned.")


def _left_out(image: Image.Image) -> str:
    """The note about what is not read of the file."""
    if not has_more_frames(image):
        return ""
    return "the first page of a TIFF with several" if image.format == "TIFF" else "the first frame of an animation"


def has_more_frames(image: Image.Image) -> bool:
    """Whether an open file has other pages or frames. The other pictures of a photo are not such: they are its depth,
    its brightness map or a view for the other eye.
    """
    return bool(getattr(image, "is_animated", False)) and image.format not in _MAIN_FIRST


def _tag(image: Image.Image, number: int) -> object:
    return image.tag_v2.get(number)  # type: ignore[attr-defined]


def _to_rgb(image: Image.Image, *, unsigned: bool) -> tuple[Image.Image, str]:
    """The image, and a note about what was done to it."""
    from PIL import Image

    if image.mode == "CMYK":
        return to_screen(image)
    if is_deep_grey(image.mode):
        return to_8_bits(image, unsigned=unsigned).convert("RGB"), ""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        flat = Image.new("RGB", rgba.size, (255, 255, 255))
        flat.paste(rgba, mask=rgba.getchannel("A"))
        return flat, ""
    return image.convert("RGB"), ""


def to_data_url(data: bytes) -> str:
    """``data:<type>;base64,…`` for image file bytes."""
    kind = image_kind(data)
    mime = f"image/{kind}" if kind else "application/octet-stream"
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def from_data_url(url: str) -> bytes:
    """The bytes of a base64 data URL; raises InvalidInput with what is wrong.

    As tools write base64: with line breaks or without padding, in the alphabet for URLs, or percent-encoded.
    """
    head, comma, body = url.strip().partition(",")
    scheme, *parameters = [word.strip().lower() for word in head.replace(":", ";", 1).split(";")]
    if scheme != "data" or not comma:
        raise InvalidInput(f"The image URL {url[:40]!r}… is not a data URL: send data:image/png;base64,…")
    if "base64" not in parameters:
        raise InvalidInput(f"The image's data URL starts with {head[:60]!r}: only ;base64 data URLs are read.")
    plain = "".join((unquote(body) if "%" in body else body).split()).translate(_STANDARD_ALPHABET).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"The image's data URL is not valid base64: {error}.") from error
