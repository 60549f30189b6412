"""Grey images with more than 8 bits keep what their values mean."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from shared.images import ImageLimits, decode_image
from tests.shared.images.picture_files import encoded, ramp, tiff

LIMITS = ImageLimits(max_bytes=200_000, max_pixels=40_000, min_side=2)


def floats(scale: float, offset: float = 0.0) -> Image.Image:
    return ramp().resize((16, 256)).convert("F").point(lambda value: value * scale + offset)


def whole(scale: float, offset: float = 0.0) -> Image.Image:
    return ramp().resize((16, 256)).convert("I").point(lambda value: value * scale + offset)


def test_sixteen_bit_grey_keeps_its_range() -> None:
    image = Image.new("I;16", (4, 4), 65535)
    assert decode_image(encoded(image), LIMITS).getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize(
    "image",
    [
        floats(1),
        floats(1 / 255),
        floats(2 / 255, -1),
        floats(1, 1000),
        floats(1e-6),
        floats(2e36, -3e38),
        whole(1),
        whole(257),
        whole(8_000_000, -1_000_000_000),
        whole(1, 2**30),
        whole(1, -300),
        whole(257).convert("I;16"),
        whole(16).convert("I;16"),
    ],
)
def test_deep_grey_is_scaled_to_its_range(image: Image.Image) -> None:
    seen = decode_image(encoded(image, "TIFF"), LIMITS)
    column = [seen.getpixel((3, row)) for row in (0, 128, 255)]
    for (red, green, blue), right in zip(column, (0, 128, 255), strict=True):  # type: ignore[misc]
        assert red == green == blue and abs(red - right) <= 1


@pytest.mark.parametrize(
    ("mode", "value", "grey"),
    [
        *[("F", value, grey) for value, grey in ((0.0, 0), (0.5, 128), (1.0, 255), (5.0, 128), (-2.0, 128))],
        *[("I", value, grey) for value, grey in ((0, 0), (128, 128), (255, 255), (70_000, 128), (-4, 128))],
        *[("I;16", value, grey) for value, grey in ((0, 0), (30_000, 117), (65_535, 255))],
    ],
)
def test_a_single_grey_value_keeps_its_meaning(mode: str, value: float, grey: int) -> None:
    assert decode_image(encoded(Image.new(mode, (20, 20), value), "TIFF"), LIMITS).getpixel((3, 3)) == (grey,) * 3


def test_values_that_are_no_numbers_are_drawn_and_the_rest_is_scaled() -> None:
    image = floats(1, 1000)
    for place, value in enumerate((float("nan"), float("inf"), float("-inf"))):
        image.putpixel((place, 200), value)
    seen = decode_image(encoded(image, "TIFF"), LIMITS)
    assert [seen.getpixel((x, 200))[0] for x in range(4)] == [0, 255, 0, 200]  # type: ignore[index]


@pytest.mark.parametrize(
    ("values", "greys"),
    [
        ((0, 2**31, 2**32 - 1, 2**30), (0, 128, 255, 64)),
        ((3 * 10**9,) * 4, (128,) * 4),
        ((2**31 + 10, 2**31 + 110, 2**31 + 60, 2**31 + 35), (0, 255, 128, 64)),
        ((2**31 - 2, 2**31 - 1, 2**31, 2**31 + 1), (0, 85, 170, 255)),
        ((0, 2**31 - 1, 2**30, 2**29), (0, 255, 128, 64)),
        ((0, 128, 255, 64), (0, 128, 255, 64)),
    ],
)
def test_unsigned_values_above_the_signed_ones_are_the_brightest(
    values: tuple[int, ...], greys: tuple[int, ...]
) -> None:
    seen = decode_image(tiff(2, 32, 1, struct.pack("<4I", *values)), LIMITS).convert("L")
    found = [seen.getpixel((place % 2, place // 2)) for place in range(4)]
    assert all(abs(one - right) <= 1 for one, right in zip(found, greys, strict=True))  # type: ignore[operator]


@pytest.mark.parametrize(("bits", "kind", "code", "most"), [(16, 1, "H", 65_535), (32, 3, "f", 1)])
def test_values_that_count_from_white_are_turned(bits: int, kind: int, code: str, most: float) -> None:
    values = struct.pack(f"<4{code}", 0, most, 0, most)
    seen = decode_image(tiff(2, bits, kind, values, photometric=0), LIMITS).convert("L")
    assert [seen.getpixel((x, 0)) for x in (0, 1)] == [255, 0]
