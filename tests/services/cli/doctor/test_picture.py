"""The two pictures that doctor shows a model."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO

import pytest
from PIL import Image

from services.cli.doctor.picture import SQUARE, STRIPES

WHITE, BLACK, RED, YELLOW = (255, 255, 255), (0, 0, 0), (200, 20, 20), (250, 220, 0)


@pytest.mark.parametrize(
    ("url", "pixels"),
    [
        (SQUARE, {(0, 0): WHITE, (15, 32): WHITE, (16, 16): RED, (47, 47): RED, (48, 32): WHITE}),
        (STRIPES, {(0, 0): BLACK, (7, 63): BLACK, (8, 0): YELLOW, (15, 63): YELLOW, (16, 32): BLACK}),
    ],
)
def test_a_picture_shows_what_its_name_says(url: str, pixels: dict[tuple[int, int], tuple[int, int, int]]) -> None:
    picture = Image.open(BytesIO(b64decode(url.removeprefix("data:image/png;base64,"))))
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (64, 64))
    assert {place: picture.getpixel(place) for place in pixels} == pixels
