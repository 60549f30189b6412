"""What a file is, its first bytes say."""

from __future__ import annotations

import pytest
from PIL import Image

from shared.images.formats import image_kind, other_kind
from tests.shared.images.picture_files import encoded

PICTURE = Image.new("RGB", (20, 10))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_picture_is_recognised_and_nothing_else(kind: str) -> None:
    data = encoded(PICTURE, kind)
    assert image_kind(data) == kind.lower()
    assert other_kind(data) is None


@pytest.mark.parametrize("kind", ["TIFF", "JPEG2000", "AVIF"])
def test_other_formats_have_no_kind_that_the_web_knows(kind: str) -> None:
    assert image_kind(encoded(PICTURE, kind)) is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%PDF-1.7", "a PDF document"),
        (b"PK\x03\x04\x14", "a zip archive"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"\n <!DOCTYPE HTML><title>", "a web page"),
        (b"<HTML>", "a web page"),
        (b"<?xml version='1.0'?><svg>", "an SVG drawing or another XML document"),
        (b"  <svg xmlns=", "an SVG drawing or another XML document"),
        (b"\x00\x00\x00\x18ftypisom", "a video"),
        (b"\x00\x00\x00\x0cJXL \r\n", "a JPEG XL image"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer to a Git LFS file: fetch the file itself"),
        (b"random bytes", None),
        (b"", None),
    ],
)
def test_what_people_store_under_an_images_name(data: bytes, words: str | None) -> None:
    assert other_kind(data) == words
    assert image_kind(data) is None
