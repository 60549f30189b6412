"""Untrusted images: what is readable becomes RGB, everything else is refused with a reason."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from random import Random
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.errors import InvalidInput
from shared.images import ImageLimits, UnreadableImage, decode, decode_image, from_data_url, to_data_url
from tests.shared.images.picture_files import HEIC, HEIC_WITH_TWO_PICTURES, encoded, print_profile, tiff

LIMITS = ImageLimits(max_bytes=200_000, max_pixels=40_000, min_side=2)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "LA", "I;16"])
def test_every_common_mode_becomes_rgb(mode: str) -> None:
    assert decode_image(encoded(Image.new(mode, (20, 10))), LIMITS).mode == "RGB"


def test_transparency_shows_white() -> None:
    image = decode_image(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0))), LIMITS)
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encoded(Image.new("RGB", (20, 10)), "JPEG", exif=exif), LIMITS).size == (10, 20)


RED, BLUE = Image.new("RGB", (96, 64), (200, 40, 40)), Image.new("RGB", (96, 64), (40, 40, 200))


@pytest.mark.parametrize("second", [BLUE, BLUE.resize((24, 16)), BLUE.convert("L")])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_phones_photo_is_its_main_picture(second: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(encoded(RED, "MPO", save_all=True, append_images=[second.copy()], exif=exif), LIMITS)
    red, _, blue = image.getpixel((5, 5))  # type: ignore[misc]
    assert image.size == ((96, 64) if orientation == 1 else (64, 96)) and red > 150 > blue


@pytest.mark.parametrize("data", [HEIC, HEIC_WITH_TWO_PICTURES])
def test_heic_is_its_main_picture(data: bytes) -> None:
    image = decode_image(data, LIMITS)
    assert (image.mode, image.size) == ("RGB", (64, 48))
    assert image.getpixel((2, 2))[0] > 200 > 60 > image.getpixel((2, 2))[1]  # type: ignore[index]


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000", "WEBP", "BMP", "DIB", "GIF", "TIFF", "MPO"])
def test_other_formats_are_read_whatever_the_file_is_called(kind: str) -> None:
    image = decode_image(encoded(RED, kind), LIMITS)
    assert image.size == (96, 64) and image.getpixel((9, 9))[0] > 150  # type: ignore[index]


def test_a_tiff_with_pages_is_its_first_and_says_so() -> None:
    found = decode(encoded(RED, "TIFF", save_all=True, append_images=[BLUE.copy(), BLUE.copy()]), LIMITS)
    assert found.image.getpixel((9, 9)) == (200, 40, 40) and "first page" in found.note
    assert decode(encoded(RED, "TIFF"), LIMITS).note == ""


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_an_animation_is_its_first_frame_and_says_so(kind: str) -> None:
    found = decode(encoded(RED, kind, save_all=True, append_images=[BLUE.copy(), RED.copy()]), LIMITS)
    red, _, blue = found.image.getpixel((9, 9))  # type: ignore[misc]
    assert red > 150 > 60 > blue and found.note == "the first frame of an animation"
    assert decode(encoded(RED, kind), LIMITS).note == ""


def test_an_animation_that_is_cut_after_its_first_frame_is_read() -> None:
    data = encoded(RED, "GIF", save_all=True, append_images=[BLUE.copy()])
    assert decode_image(data[:-20], LIMITS).getpixel((9, 9)) == (200, 40, 40)


def test_a_transparent_animation_shows_white() -> None:
    first, second = Image.new("RGBA", (9, 9), (255, 0, 0, 0)), Image.new("RGBA", (9, 9), (0, 0, 255, 255))
    for kind in ("GIF", "WEBP", "PNG"):
        image = decode_image(encoded(first, kind, save_all=True, append_images=[second]), LIMITS)
        assert image.getpixel((3, 3)) == (255, 255, 255)


INKS = {(0, 0, 0, 0): (255, 255, 255), (0, 255, 255, 0): (255, 0, 0), (0, 0, 0, 255): (0, 0, 0)}


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "JPEG2000", "MPO"])
@pytest.mark.parametrize(("inks", "colour"), INKS.items())
def test_inks_become_colours(kind: str, inks: tuple[int, ...], colour: tuple[int, ...]) -> None:
    """JPEG files hold inverted values, as Adobe's programs write them."""
    found = decode(encoded(Image.new("CMYK", (16, 16), inks), kind), LIMITS)
    seen = found.image.getpixel((5, 5))
    assert max(abs(one - right) for one, right in zip(seen, colour, strict=True)) <= 2  # type: ignore[arg-type]
    assert found.note == "approximate colours: CMYK without a print profile"


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_an_images_own_profile_says_what_its_inks_look_like(kind: str) -> None:
    inks = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    found = decode(encoded(inks, kind, icc_profile=print_profile(cyan=(150, 200, 200))), LIMITS)
    assert found.image.getpixel((5, 5)) == (255, 64, 0) and found.note == ""


@pytest.mark.parametrize("profile", [b"rubbish" * 40, print_profile((150, 200, 200))[:-900], b"\0"])
def test_a_damaged_profile_says_nothing_about_the_picture(profile: bytes) -> None:
    found = decode(encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "TIFF", icc_profile=profile), LIMITS)
    assert (
        found.image.getpixel((5, 5)) == (0, 255, 255)
        and found.note == "approximate colours: CMYK without a print profile"
    )


def test_a_turned_photo_in_inks_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = decode(encoded(Image.new("CMYK", (20, 10), (0, 255, 0, 0)), "JPEG", exif=exif), LIMITS)
    assert (found.image.mode, found.image.size) == ("RGB", (10, 20))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("bits", "kind", "code", "value"),
    [
        (16, 1, "H", lambda n: n * 4096 + n),
        (16, 2, "h", lambda n: n * 1000 - 8000),
        (32, 2, "i", lambda n: n * 9_999),
        (32, 3, "f", lambda n: n / 15),
    ],
)
def test_every_order_of_bytes_is_read(
    big: bool, bits: int, kind: int, code: str, value: Callable[[int], float]
) -> None:
    values = struct.pack(f"{'>' if big else '<'}16{code}", *map(value, range(16)))
    seen = decode_image(tiff(4, bits, kind, values, big=big), LIMITS).convert("L")
    assert seen.getextrema()[0] == 0 and seen.getpixel((3, 3)) >= 239  # type: ignore[operator]


@pytest.mark.parametrize(
    ("mode", "transparent"), [("1", 0), ("L", 0), ("P", 0), ("RGB", (0, 0, 0)), ("LA", None), ("RGBA", None)]
)
def test_every_kind_of_transparency_shows_white(mode: str, transparent: object) -> None:
    options = {} if transparent is None else {"transparency": transparent}
    assert decode_image(encoded(Image.new(mode, (9, 9)), **options), LIMITS).getpixel((3, 3)) == (255, 255, 255)


def good_photo() -> Image.Image:
    return Image.effect_noise((60, 60), 80).convert("RGB")


def bad_images() -> dict[str, tuple[bytes, str]]:
    good = encoded(Image.effect_noise((100, 100), 80).convert("RGB"))
    return {
        "zero bytes": (b"", "empty"),
        "text": (b"hello, I am no image", "not an image"),
        "truncated": (good[: len(good) // 2], "damaged or truncated"),
        "too many bytes": (b"\x89PNG" + b"0" * 300_000, "MPA_MAX_IMAGE_BYTES"),
        "too many pixels": (encoded(Image.new("L", (300, 300))), "MPA_MAX_IMAGE_PIXELS"),
        "one pixel": (encoded(Image.new("RGB", (1, 1))), "too small"),
        "cut png header": (good[:40], "damaged or truncated: it begins like a PNG"),
        "cut jpeg": (encoded(good_photo(), "JPEG")[:-300], "damaged or truncated"),
        "cut heic": (HEIC[:-100], "damaged or truncated"),
        "cut avif": (encoded(good_photo(), "AVIF")[:-50], "damaged or truncated"),
        "only nan": (encoded(Image.new("F", (9, 9), float("nan")), "TIFF"), "no finite value"),
        "doubles": (tiff(2, 64, 3, bytes(32)), "kind of pixel that is not read"),
        "unsigned from the other end": (tiff(2, 32, 1, bytes(16), big=True), "kind of pixel that is not read"),
        "signed bytes": (tiff(2, 8, 2, bytes(4)), "signed 8-bit"),
        "lab": (encoded(Image.new("LAB", (9, 9)), "TIFF"), "CIELAB"),
        "web page": (b"\n<!DOCTYPE html><html>not found</html>", "it is a web page"),
        "pdf": (b"%PDF-1.7", "it is a PDF"),
        "lfs": (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
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
    for prefix in (
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"BM",
        b"II*\0",
        b"\0\0\0\x18ftypheic",
        b"\0\0\0\x1cftypavif",
    ):
        try:
            mode = decode_image(prefix + data, LIMITS).mode
        except UnreadableImage:
            continue
        assert mode == "RGB"


@given(st.binary(min_size=1, max_size=500))
def test_data_urls_round_trip(data: bytes) -> None:
    assert from_data_url(to_data_url(data)) == data


@pytest.mark.parametrize(
    "write",
    [
        lambda data: "data:image/png;base64," + base64.encodebytes(data).decode(),
        lambda data: "data:image/png;base64, " + base64.b64encode(data).decode().replace("A", "A\r\n\t "),
        lambda data: "data:image/png;base64," + base64.b64encode(data).decode().rstrip("="),
        lambda data: "data:image/png;base64," + base64.urlsafe_b64encode(data).decode(),
        lambda data: "data:image/png;base64," + quote(base64.b64encode(data).decode(), safe=""),
        lambda data: "data:image/png;charset=utf-8;name=a.png;BASE64," + base64.b64encode(data).decode(),
        lambda data: " DATA:;base64," + base64.b64encode(data).decode() + "\n",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_base64_as_tools_write_it(write: Callable[[bytes], str], size: int) -> None:
    data = Random(size).randbytes(size)
    assert from_data_url(write(data)) == data


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://x/y.png", "'http://x/y.png'… is not a data URL"),
        ("data:", "'data:'… is not a data URL"),
        ("data:image/png,raw", "only ;base64 data URLs are read"),
        ("data:image/png;base64,%%%", "not valid base64"),
    ],
)
def test_bad_data_urls_say_what_is_wrong(url: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        from_data_url(url)
