"""From a conversation to what a model reads, by the processor of a real family and without a model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image
from transformers import AutoProcessor

from shared.contracts import ChatMessage, ImagePart, ImageURL, TextPart
from shared.errors import InvalidInput
from shared.serving.prompts import check_length, encoder_of
from shared.vlm.prompting import Encoded
from tests.tiny_models import DEMO_STUDENT

PICTURES = [Image.effect_noise((90, 96), 60 + n).convert("RGB") for n in range(2)]


@pytest.fixture(scope="module")
def loaded() -> SimpleNamespace:
    return SimpleNamespace(processor=AutoProcessor.from_pretrained(DEMO_STUDENT))


def encoded(loaded: SimpleNamespace, text: str, picture: Image.Image | None = None) -> Encoded:
    parts: list[ImagePart | TextPart] = [TextPart(type="text", text=text)]
    if picture is not None:
        parts.insert(0, ImagePart(type="image_url", image_url=ImageURL(url="data:image/png;base64,AAAA")))
    messages = [ChatMessage(role="user", content=parts)]
    return encoder_of(messages, [] if picture is None else [picture])(loaded)


def test_the_same_image_has_the_same_key_whatever_is_asked(loaded: SimpleNamespace) -> None:
    one, again = encoded(loaded, "how many?", PICTURES[0]), encoded(loaded, "what is this?", PICTURES[0])
    other = encoded(loaded, "how many?", PICTURES[1])
    assert one.image_key == again.image_key != other.image_key
    assert one.length == one.features["input_ids"].shape[1]
    assert "how many?" in one.text
    assert "pixel_values" in one.features


def test_a_prompt_without_an_image_has_no_key(loaded: SimpleNamespace) -> None:
    plain = encoded(loaded, "how many?")
    assert plain.image_key == ""
    assert "pixel_values" not in plain.features


def test_a_text_that_spells_the_image_token_is_a_text_and_no_image(loaded: SimpleNamespace) -> None:
    token = loaded.processor.image_token
    tokenizer = loaded.processor.tokenizer
    number = tokenizer.convert_tokens_to_ids(token)
    plain, spelled = (encoded(loaded, f"what is {word}?", PICTURES[0]) for word in ("it", token))
    for one in (plain, spelled):
        assert one.features["input_ids"][0].tolist().count(number) == loaded.processor.image_seq_len
    assert tokenizer.decode(spelled.features["input_ids"][0]).count(f"what is {token}?") == 1
    assert number not in encoded(loaded, token).features["input_ids"]


def test_a_prompt_that_the_processor_cannot_read_is_refused_with_the_reason(loaded: SimpleNamespace) -> None:
    messages = [ChatMessage(role="user", content="two images are here and none is shown")]
    with pytest.raises(InvalidInput, match=r"cannot read this prompt .*images"):
        encoder_of(messages, PICTURES)(loaded)


def test_prompt_and_answer_fit_together_or_are_refused() -> None:
    check_length(60, 4, 64)
    with pytest.raises(InvalidInput, match="has 61 tokens and up to 4 may be answered; the model reads at most 64"):
        check_length(61, 4, 64)
