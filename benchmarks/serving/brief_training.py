"""A checkpoint as a job's full training makes it: all weights moved by some steps, saved by save_pretrained."""

from __future__ import annotations

from pathlib import Path

import torch

from demo.answering import Answerer
from demo.world.generator import labelled, pile

STEPS, BATCH, SEED = 12, 8, 7


def train_briefly(model: Path, folder: Path) -> Path:
    """Train ``model`` on labelled questions for a few steps and save it to ``folder``."""
    torch.manual_seed(SEED)
    answerer = Answerer(model)
    pictures = list(pile(STEPS * BATCH, SEED, "train"))
    asked = labelled(pictures, SEED, questions_each=1)
    optimizer = torch.optim.AdamW(answerer.model.parameters(), lr=1e-4)
    for step in range(STEPS):
        batch = asked[step * BATCH : (step + 1) * BATCH]
        texts = [answerer.prompt(one.question.text) + one.question.answer for one in batch]
        inputs = answerer.inputs(texts, [pictures[one.index].pixels for one in batch])
        labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
        loss = answerer.model(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    answerer.model.to(torch.bfloat16).save_pretrained(folder)
    answerer.processor.save_pretrained(folder)
    return folder
