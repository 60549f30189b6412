"""What is sent to a model is read alike by every server."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from shared.images import ImageLimits, from_data_url
from shared.images.wire import prepare_image
from tests.shared.images.picture_files import HEIC, encoded

LIMITS = ImageLimits()
RED, BLUE = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (20, 10), "blue")


def turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image, "JPEG", exif=exif)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_what_every_server_reads_alike_is_sent_as_it_is(kind: str) -> None:
    data = encoded(RED, kind)
    assert from_data_url(prepare_image(data, LIMITS).url) == data


@pytest.mark.parametrize(
    "data",
    [
        HEIC,
        turned(RED),
        *[encoded(RED, kind) for kind in ("AVIF", "BMP", "GIF", "TIFF", "JPEG2000")],
        *[encoded(Image.new(mode, (9, 9))) for mode in ("RGBA", "LA", "P", "1", "I;16")],
        encoded(Image.new("L", (9, 9)), transparency=0),
        encoded(Image.new("F", (9, 9), 0.5), "TIFF"),
        encoded(Image.new("CMYK", (9, 9), (9, 200, 0, 50)), "JPEG"),
        *[encoded(RED, kind, save_all=True, append_images=[BLUE]) for kind in ("PNG", "WEBP", "GIF", "AVIF")],
    ],
)
def test_the_rest_is_sent_as_our_decoder_sees_it(data: bytes) -> None:
    sent = prepare_image(data, LIMITS)
    again = Image.open(io.BytesIO(from_data_url(sent.url)))
    assert (again.format, again.mode, list(again.getexif())) == ("PNG", "RGB", [])
    assert again.tobytes() == sent.image.tobytes()


def test_a_large_photo_stays_small_enough_for_a_request() -> None:
    photo = Image.effect_noise((2000, 1500), 60).convert("RGB")
    sent = prepare_image(turned(photo), LIMITS)
    again = Image.open(io.BytesIO(from_data_url(sent.url)))
    assert (again.format, again.size) == ("JPEG", (1500, 2000))
