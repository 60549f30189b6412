"""Grey images with more than 8 bits: their values become the 256 steps that a picture has.

The values' own meaning decides where it is known: 0-65535 of 16-bit images, 0-1 of floats, 0-255 of 32-bit integers.
Values outside it, or so small that the picture would be black, are stretched from their least to their greatest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.images.errors import UnreadableImage

if TYPE_CHECKING:  # Pillow is imported on first use: the command line is installed without it
    from PIL import Image

_LARGEST_FLOAT = 3.4028234663852886e38
_LEAST_SHARE = 1 / 16
"""A picture that uses less of its type's range is nearly black. 12-bit cameras store their values in 16 bits."""


def is_deep_grey(mode: str) -> bool:
    """Whether a picture of Pillow's ``mode`` has more than 8 bits and one channel."""
    return mode.startswith("I") or mode == "F"


def to_8_bits(image: Image.Image, *, unsigned: bool = False) -> Image.Image:
    """An image of mode L. NaN and infinite values are drawn black and white. Raises UnreadableImage if all are such.

    ``unsigned``: the file's values have no sign, so what mode I takes for negative lies above the others.
    """
    if image.mode == "F":
        return _floats(image)
    most = 65535 if image.mode.startswith("I;16") else 255
    whole = image if image.mode == "I" else image.convert("I")
    least, greatest = _extrema(whole)
    if unsigned and least < 0:
        # 2³¹ less each, exactly and in order. Such values are always stretched.
        whole = _lowered(whole)
        return _stretched(whole, *_extrema(whole), 0)
    return _stretched(whole, least, greatest, most)


def _lowered(image: Image.Image) -> Image.Image:
    """Mode I with the sign bit turned: unsigned values less 2³¹, as signed ones."""
    from PIL import Image, ImageMath

    sign = Image.new("I", image.size, -(2**31))
    lowered: Image.Image = ImageMath.lambda_eval(lambda args: args["a"] ^ args["b"], a=image, b=sign)
    return lowered


def _floats(image: Image.Image) -> Image.Image:
    from PIL import ImageChops, ImageMath

    # NaN is the one value that does not equal itself.
    known = ImageMath.lambda_eval(lambda args: args["a"] == args["a"], a=image).convert("L").point(_on, "1")
    finite = ImageMath.lambda_eval(lambda args: abs(args["a"]) <= _LARGEST_FLOAT, a=image).convert("L").point(_on, "1")
    finite = ImageChops.logical_and(known, finite)
    if finite.getbbox() is None:
        raise UnreadableImage("The image has no finite value: all of them are NaN or infinite.")
    least = _extrema(_with(image, finite, _LARGEST_FLOAT))[0]
    most = _extrema(_with(image, finite, -_LARGEST_FLOAT))[1]
    grey = _stretched(_with(image, finite, least), least, most, 1)
    grey.paste(0, mask=ImageChops.invert(finite.convert("L")).point(_on, "1"))
    above = ImageMath.lambda_eval(lambda args: args["a"] > _LARGEST_FLOAT, a=image).convert("L").point(_on, "1")
    grey.paste(255, mask=above)
    return grey


def _stretched(image: Image.Image, least: float, most: float, usual: float) -> Image.Image:
    """``usual``: the value that is white, if the values lie between 0 and it."""
    if least >= 0 and most <= usual and (least == most or most >= usual * _LEAST_SHARE):
        least, most = 0, usual
    if least == most:
        return _flat(image, 128)
    scale = 255 / (most - least)
    return image.point(lambda value: value * scale + (0.5 - least * scale)).convert("L")


def _flat(image: Image.Image, value: int) -> Image.Image:
    from PIL import Image

    return Image.new("L", image.size, value)


def _with(image: Image.Image, kept: Image.Image, filler: float) -> Image.Image:
    """A copy with ``filler`` wherever ``kept`` (mode 1) is not set."""
    from PIL import Image

    filled = Image.new("F", image.size, filler)
    filled.paste(image, mask=kept)
    return filled


def _extrema(image: Image.Image) -> tuple[float, float]:
    least, most = image.getextrema()
    assert isinstance(least, int | float) and isinstance(most, int | float)
    return least, most


def _on(value: float) -> int:
    return 255 if value else 0
