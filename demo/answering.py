"""Batched answers of a Hugging Face vision-language model by its public path: processor, template, generate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Sampling:
    """How to sample; a temperature of 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0


GREEDY = Sampling()


class Answerer:
    """A loaded model and its processor."""

    def __init__(self, folder: Path | str, dtype: torch.dtype = torch.float32) -> None:
        # the auto classes are untyped
        processors: Any = AutoProcessor
        models: Any = AutoModelForImageTextToText
        self.processor: Any = processors.from_pretrained(folder)
        self.model: Any = models.from_pretrained(folder, dtype=dtype).eval()

    def prompt(self, question: str) -> str:
        """The chat prompt of one question about one image."""
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return text

    def inputs(self, texts: Sequence[str], images: Sequence[Pixels]) -> dict[str, torch.Tensor]:
        """Model inputs of whole chat texts about uint8 [96, 96, 3] images, padded on the left."""
        encoded = self.processor(
            text=list(texts), images=[[Image.fromarray(image)] for image in images], padding=True, return_tensors="pt"
        )
        encoded["pixel_values"] = encoded["pixel_values"].to(self.model.dtype)
        return dict(encoded)

    @torch.no_grad()
    def answer(
        self,
        images: Sequence[Pixels],
        questions: Sequence[str],
        *,
        sampling: Sampling = GREEDY,
        max_new_tokens: int = 12,
        batch_size: int = 64,
    ) -> list[str]:
        """One answer a question, in order. Questions of like length share a batch."""
        self.model.eval()
        answers = [""] * len(questions)
        order = sorted(range(len(questions)), key=lambda index: len(questions[index]))
        options: dict[str, Any] = {"do_sample": False}
        if sampling.temperature > 0:
            options = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            inputs = self.inputs([self.prompt(questions[index]) for index in part], [images[index] for index in part])
            generated = self.model.generate(**inputs, max_new_tokens=max_new_tokens, **options)
            new = generated[:, inputs["input_ids"].shape[1] :]
            for index, text in zip(part, self.processor.batch_decode(new, skip_special_tokens=True), strict=True):
                answers[index] = text.strip()
        return answers
