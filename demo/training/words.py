"""Ties what a word means in a question to what it means as an answer.

A word inside a question (" red") and the same word as an answer ("red") are two tokens. The answer's embedding, which
is also its output weight, soon matches what the image shows; a question's word then has to learn that again by itself,
which took most of the training for lookups such as "what is written on the red object?". Adding the one to the other
once makes them learn in a few hundred steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from demo.world.vocabulary import BOARDS, CHARACTERS, COLOR_NAMES, WORDS

EMBEDDING = "model.text_model.embed_tokens.weight"
LINKED = (*COLOR_NAMES, *CHARACTERS, *WORDS, *BOARDS, "top", "bottom", "left", "right")


@torch.no_grad()
def link_words(embedding: Tensor, tokenizer: Any) -> None:
    """Add the embedding of each answer word to that of the same word with a space before it, in place."""
    for word in LINKED:
        answer, question = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (word, f" {word}"))
        if len(answer) == len(question) == 1:
            embedding[question[0]] += embedding[answer[0]]
