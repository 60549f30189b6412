"""What the student is asked: real questions about the demo's pictures, as image files and as ready HTTP bodies."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from demo.world.generator import labelled, pile
from shared.images import to_data_url

SEED = 20_261_123


@dataclass(frozen=True)
class Asked:
    """One request: a PNG file and a question about it."""

    png: bytes
    question: str


def questions(count: int, *, per_image: int = 1, seed: int = SEED) -> list[Asked]:
    """``count`` questions; each image is asked ``per_image`` questions, one after the other."""
    images = -(-count // per_image)
    pictures = list(pile(images, seed, "test"))
    files = [_png(picture.pixels) for picture in pictures]
    texts = [one.question.text for one in labelled(pictures, seed)]
    return [Asked(files[n // per_image], texts[n % len(texts)]) for n in range(count)]


def bodies(asked: Sequence[Asked], *, max_tokens: int) -> list[bytes]:
    """JSON bodies of greedy chat completions."""
    return [json.dumps(_body(one, max_tokens)).encode() for one in asked]


def _body(one: Asked, max_tokens: int) -> dict[str, object]:
    content = [
        {"type": "image_url", "image_url": {"url": to_data_url(one.png)}},
        {"type": "text", "text": one.question},
    ]
    return {
        "model": "student",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": max_tokens,
        "temperature": 0,
    }


def _png(pixels: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
