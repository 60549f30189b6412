"""From a conversation to what the model reads. This is the work of a processor alone, done beside the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from PIL import Image

from shared.contracts import ChatMessage
from shared.errors import InvalidInput
from shared.vlm.image_features import image_digest
from shared.vlm.prompting import Encoded, WithProcessor, encode, render

Encoder = Callable[[WithProcessor], Encoded]


def encoder_of(messages: Sequence[ChatMessage], images: Sequence[Image.Image]) -> Encoder:
    """Encodes a conversation and its images with a checkpoint's processor. The encoder raises InvalidInput."""

    def encoder(loaded: WithProcessor) -> Encoded:
        prompt = render(loaded, messages, images)
        try:
            encoded = encode(loaded, prompt)
        except Exception as error:  # processors raise anything, for example for a number of images they do not take
            raise InvalidInput(
                f"The model's processor cannot read this prompt ({type(error).__name__}: {error}). "
                "Send other text or images."
            ) from error
        return replace(encoded, image_key=image_digest(images)) if images else encoded

    return encoder


def check_length(prompt: int, answer: int, max_length: int) -> None:
    """Raises InvalidInput if prompt and answer (tokens) are more than the model reads."""
    if prompt + answer > max_length:
        raise InvalidInput(
            f"The prompt has {prompt} tokens and up to {answer} may be answered; the model reads at most {max_length}: "
            "shorten the prompt or lower max_tokens."
        )
