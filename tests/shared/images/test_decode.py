"""Untrusted images: what is readable becomes RGB, everything else is refused with a reason."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.errors import InvalidInput
from shared.images import ImageLimits, UnreadableImage, decode_image, from_data_url, to_data_url

LIMITS = ImageLimits(max_bytes=200_000, max_pixels=40_000, min_side=2)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "LA", "I;16"])
def test_every_common_mode_becomes_rgb(mode: str) -> None:
    assert decode_image(encoded(Image.new(mode, (20, 10))), LIMITS).mode == "RGB"


def test_transparency_shows_white() -> None:
    image = decode_image(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0))), LIMITS)
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_grey_keeps_its_range() -> None:
    image = Image.new("I;16", (4, 4), 65535)
    assert decode_image(encoded(image), LIMITS).getpixel((1, 1)) == (255, 255, 255)


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encoded(Image.new("RGB", (20, 10)), "JPEG", exif=exif), LIMITS).size == (10, 20)


def bad_images() -> dict[str, tuple[bytes, str]]:
    good = encoded(Image.effect_noise((100, 100), 80).convert("RGB"))
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    return {
        "zero bytes": (b"", "empty"),
        "text": (b"hello, I am no image", "not an image"),
        "truncated": (good[: len(good) // 2], "damaged or truncated"),
        "too many bytes": (b"\x89PNG" + b"0" * 300_000, "MPA_MAX_IMAGE_BYTES"),
        "too many pixels": (encoded(Image.new("L", (300, 300))), "MPA_MAX_IMAGE_PIXELS"),
        "one pixel": (encoded(Image.new("RGB", (1, 1))), "too small"),
        "animated": (encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "animated"),
        "cmyk": (encoded(Image.new("CMYK", (10, 10)), "JPEG"), "CMYK"),
    }


@pytest.mark.parametrize("name", list(bad_images()))
def test_bad_images_are_refused_with_a_reason(name: str) -> None:
    data, reason = bad_images()[name]
    with pytest.raises(UnreadableImage, match=reason):
        decode_image(data, LIMITS)


@pytest.mark.slow
def test_a_decompression_bomb_is_refused_before_decoding() -> None:
    header_only = encoded(Image.new("1", (60_000, 60_000)))
    with pytest.raises(UnreadableImage, match=r"60000×60000|too large"):
        decode_image(header_only, ImageLimits(max_bytes=10_000_000, max_pixels=40_000))


@given(st.binary(max_size=400))
def test_arbitrary_bytes_never_raise_anything_else(data: bytes) -> None:
    for prefix in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM"):
        try:
            mode = decode_image(prefix + data, LIMITS).mode
        except UnreadableImage:
            continue
        assert mode == "RGB"


@given(st.binary(min_size=1, max_size=500))
def test_data_urls_round_trip(data: bytes) -> None:
    assert from_data_url(to_data_url(data)) == data


@pytest.mark.parametrize("url", ["http://x/y.png", "data:image/png,raw", "data:image/png;base64,%%%", "data:"])
def test_bad_data_urls_say_what_is_wrong(url: str) -> None:
    with pytest.raises(InvalidInput):
        from_data_url(url)
