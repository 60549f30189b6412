"""Parity Leveler as the trainer runs it: plain transformers forward, one question a sample, AdamW, replay."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch

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
    if settings.freeze_vision:
        model.model.vision_model.requires_grad_(False)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    replayed = round(settings.batch_size * settings.replay_fraction) if replay else 0
    fresh_deck, replay_deck = _Deck(disparity, rng), _BalancedDeck(replay, pictures, rng)
    for step in range(settings.max_steps):
        batch = [fresh_deck.next() for _ in range(settings.batch_size - replayed)]
        batch += [replay_deck.next() for _ in range(replayed)]
        inputs = _inputs(student, pictures, batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.param_groups[0]["lr"] = settings.learning_rate * _schedule(step, settings)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    model.requires_grad_(True).eval()
    return time.monotonic() - started


def _schedule(step: int, settings: Settings) -> float:
    warmup = max(1, round(settings.warmup_fraction * settings.max_steps))
    return min(1.0, (step + 1) / warmup) * min(1.0, (settings.max_steps - step) / max(1, settings.max_steps - warmup))


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
    """Deals from all families as often."""

    def __init__(self, pairs: Sequence[SimulatedPair], pictures: Sequence[Picture], rng: Random) -> None:
        families: dict[str, list[SimulatedPair]] = {}
        for pair in pairs:
            families.setdefault(pictures[pair.index].family, []).append(pair)
        self._decks = [_Deck(family, rng) for family in families.values()]
        self._rng = rng

    def next(self) -> SimulatedPair:
        return self._rng.choice(self._decks).next()
