"""Questions about two plain pictures, and the encoder of a model for them."""

from __future__ import annotations

from PIL import Image

from services.trainer.data.dataset import Sample
from services.trainer.data.encoder import Encoder
from shared.vlm.loading import LoadedModel


def sample(number: int, question: str = "what colour is it?", answer: str = "red") -> Sample:
    return Sample(f"p{number}", f"image-{number % 2}", None, "chart", question, answer, is_replay=number % 2 == 1)


def picture(item: Sample) -> Image.Image:
    return Image.new("RGB", (96, 96), (200, 10, 10) if item.image == "image-0" else (10, 10, 200))


def encoder(loaded: LoadedModel, cache_bytes: int = 1 << 30) -> Encoder:
    return Encoder(loaded, lambda target: target.sample.question, picture, cache_bytes=cache_bytes)
