"""Parity Leveler as the trainer runs it: plain transformers forward, one question a sample, AdamW, replay."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

import torch
import torch.nn.functional as functional
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from demo.answering import Answerer
from demo.simulation.pairs import SimulatedPair
from demo.world.pictures import Picture

IGNORE = -100


@dataclass(frozen=True)
class Settings:
    """The part of a job's ``train`` section that matters here."""

    learning_rate: float = 5e-4
    batch_size: int = 32
    max_steps: int = 300
    replay_fraction: float = 0.5
    freeze_vision: bool = False
    warmup_fraction: float = 0.05
    weight_decay: float = 0.01
    bf16: bool = False


def learn(
    student: Answerer,
    pictures: Sequence[Picture],
    disparity: Sequence[SimulatedPair],
    replay: Sequence[SimulatedPair],
    settings: Settings,
    seed: int,
) -> float:
    """Train ``student`` in place; returns the seconds it took."""
    started = time.monotonic()
    rng = Random(seed)
    torch.manual_seed(seed)
    model = student.model.train()
    features: dict[int, Tensor] = {}
    if settings.freeze_vision:
        model.model.vision_model.requires_grad_(False)
        model.model.connector.requires_grad_(False)
        features = _features(student, pictures, {pair.index for pair in (*disparity, *replay)})
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    replayed = round(settings.batch_size * settings.replay_fraction) if replay else 0
    fresh_deck, replay_deck = _Deck(disparity, rng), _BalancedDeck(replay, pictures, rng)
    for step in range(settings.max_steps):
        batch = [fresh_deck.next() for _ in range(settings.batch_size - replayed)]
        batch += [replay_deck.next() for _ in range(replayed)]
        inputs = _inputs(student, pictures, batch)
        if features:
            del inputs["pixel_values"], inputs["pixel_attention_mask"]
            pooled = torch.stack([features[pair.index] for pair in batch])
            inputs["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=pooled)}
        labels = inputs.pop("labels")
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            loss = _loss(model(**inputs, use_cache=False).logits, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.param_groups[0]["lr"] = settings.learning_rate * _schedule(step, settings)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    model.requires_grad_(True).eval()
    return time.monotonic() - started


def _schedule(step: int, settings: Settings) -> float:
    warmup = max(1, round(settings.warmup_fraction * settings.max_steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, settings.max_steps - warmup)))


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over samples of the mean cross-entropy of their answer's tokens."""
    wanted = labels[:, 1:]
    losses = functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), wanted, ignore_index=IGNORE, reduction="none"
    )
    return (losses.sum(1) / (wanted != IGNORE).sum(1)).mean()


@torch.no_grad()
def _features(student: Answerer, pictures: Sequence[Picture], indices: Iterable[int]) -> dict[int, Tensor]:
    """The output of the frozen vision tower and connector for each picture: constant, so computed once."""
    found: dict[int, Tensor] = {}
    order = sorted(indices)
    for start in range(0, len(order), 64):
        part = order[start : start + 64]
        inputs = student.inputs([student.prompt("?")] * len(part), [pictures[index].pixels for index in part])
        pooled = student.model.model.get_image_features(inputs["pixel_values"], inputs["pixel_attention_mask"])
        found.update(zip(part, pooled.pooler_output, strict=True))
    return found


def _inputs(student: Answerer, pictures: Sequence[Picture], batch: Sequence[SimulatedPair]) -> dict[str, torch.Tensor]:
    prompts = [student.prompt(pair.question) for pair in batch]
    end = student.processor.tokenizer.eos_token
    texts = [f"{prompt}{pair.teacher}{end}" for prompt, pair in zip(prompts, batch, strict=True)]
    inputs = student.inputs(texts, [pictures[pair.index].pixels for pair in batch])
    labels = torch.full_like(inputs["input_ids"], IGNORE)
    for row, pair in enumerate(batch):
        length = len(student.processor.tokenizer(pair.teacher, add_special_tokens=False)["input_ids"]) + 1
        labels[row, -length:] = inputs["input_ids"][row, -length:]
    return {**inputs, "labels": labels}


class _Deck:
    """Deals pairs in random order, all of them before any comes again."""

    def __init__(self, pairs: Sequence[SimulatedPair], rng: Random) -> None:
        self._pairs, self._rng = list(pairs), rng
        self._left: list[SimulatedPair] = []

    def next(self) -> SimulatedPair:
        if not self._left:
            self._left = self._rng.sample(self._pairs, len(self._pairs))
        return self._left.pop()


class _BalancedDeck:
    """Deals equally often from all families."""

    def __init__(self, pairs: Sequence[SimulatedPair], pictures: Sequence[Picture], rng: Random) -> None:
        families: dict[str, list[SimulatedPair]] = {}
        for pair in pairs:
            families.setdefault(pictures[pair.index].family, []).append(pair)
        self._decks = [_Deck(family, rng) for family in families.values()]
        self._rng = rng

    def next(self) -> SimulatedPair:
        return self._rng.choice(self._decks).next()
