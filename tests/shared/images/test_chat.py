"""The images of a chat reach every engine as our decoder sees them."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from shared.contracts import ChatMessage
from shared.errors import InvalidInput
from shared.images import from_data_url
from shared.images.chat import ChatImages
from shared.settings import ChatImageSettings
from tests.shared.images.picture_files import HEIC, encoded


def asking(data: bytes) -> list[ChatMessage]:
    url = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    part = {"type": "image_url", "image_url": {"url": url}}
    return [ChatMessage.model_validate({"role": "user", "content": [part, {"type": "text", "text": "what is it?"}]})]


@pytest.mark.parametrize("data", [HEIC, encoded(Image.new("F", (64, 48), 0.5), "TIFF")])
def test_what_an_engine_may_not_know_is_sent_as_png(data: bytes) -> None:
    images = ChatImages(ChatImageSettings(), max_images=2, setting="MPA_STUDENT_MAX_IMAGES")
    (message,), (picture,) = images.read(asking(data))
    sent = message.content[0].image_url.url  # type: ignore[union-attr]
    seen = Image.open(io.BytesIO(from_data_url(sent)))
    assert (seen.format, seen.size, seen.tobytes()) == ("PNG", (64, 48), picture.tobytes())
    with pytest.raises(InvalidInput, match=r"Image 1 of 1: .* it is a PDF"):
        images.read(asking(b"%PDF-1.7"))
    images.close()
