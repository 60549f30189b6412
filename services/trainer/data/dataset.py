"""What a training learns from: disparity pairs of the train split, and replay pairs against forgetting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from services.trainer.data.batch_plan import BatchPlan
from services.trainer.losses.weights import pair_weights
from shared.contracts import Discrepancy, LossSpec, Split, TrainSpec, Verdict
from shared.errors import InvalidInput
from shared.images.tables import split_reference
from shared.images.web import WEB_SCHEMES
from shared.sets import Alternative, read_set
from shared.store import Store


@dataclass(frozen=True)
class Sample:
    """One question with the answer to learn (the teacher's) about one image, whose file had ``image_sha256`` when it
    was asked; and what else the set knows about the pair (see shared/sets/schema.py), as far as the loss uses it.
    """

    pair_id: str
    image: str
    image_sha256: str | None
    task: str
    question: str
    answer: str
    is_replay: bool = False
    weight: float = 1.0
    student_answer: str | None = None
    votes: tuple[str, ...] = ()
    discrepancies: Mapping[Discrepancy, float | None] = field(default_factory=dict)
    rationale: str | None = None
    teacher_top: tuple[tuple[Alternative, ...], ...] | None = None
    teacher_attention: tuple[float, ...] | None = None

    @property
    def image_key(self) -> str:
        return self.image


@dataclass(frozen=True)
class TrainingSet:
    """Disparity samples first, then replay samples, both in the set's order; a list index is a dataset index."""

    samples: tuple[Sample, ...]
    disparity: int

    @property
    def replay(self) -> int:
        return len(self.samples) - self.disparity

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def replay_pools(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the replay samples of each task, tasks in alphabetical order."""
        pools: dict[str, list[int]] = {}
        for index in range(self.disparity, len(self.samples)):
            pools.setdefault(self.samples[index].task, []).append(index)
        return tuple(tuple(pools[task]) for task in sorted(pools))

    def plan(self, spec: TrainSpec, seed: int, lengths: tuple[int, ...] | None = None) -> BatchPlan:
        return BatchPlan(self.disparity, self.replay_pools(), spec.batch_size, spec.replay_fraction, seed, lengths)

    def weighted(self, alignment: LossSpec) -> TrainingSet:
        """The set with its disparity pairs' weights; replay pairs count 1."""
        pairs = self.samples[: self.disparity]
        weights = pair_weights([pair.discrepancies for pair in pairs], alignment.weigh_by)
        heavy = [replace(pair, weight=weight) for pair, weight in zip(pairs, weights, strict=True)]
        return TrainingSet((*heavy, *self.samples[self.disparity :]), self.disparity)


def read_training_set(store: Store, job_id: str, round_: int = 1) -> TrainingSet:
    """The train split of a mined round. If it has no disparity pair, there is nothing to learn.

    Disparity pairs of earlier rounds are replayed, so that the student does not forget what they taught.
    """

    def read(verdict: Verdict, rounds: Sequence[int]) -> pa.Table:
        return read_set(store, job_id, verdicts=[verdict], split=Split.TRAIN, rounds=rounds)

    disparity = _samples(read(Verdict.DISPARITY, [round_]), is_replay=False)
    learned = _samples(read(Verdict.DISPARITY, range(1, round_)), is_replay=True)
    replay = _samples(read(Verdict.STUDENT_RIGHT, [round_]), is_replay=True)
    return TrainingSet((*disparity, *learned, *replay), len(disparity))


def read_held_out(store: Store, job_id: str, round_: int = 1) -> list[Sample]:
    """The held-out pairs of a round with a verified answer, in the set's order: no training sees their images."""
    verdicts = [Verdict.DISPARITY, Verdict.STUDENT_RIGHT]
    return _samples(read_set(store, job_id, verdicts=verdicts, split=Split.HELD_OUT, rounds=[round_]), is_replay=False)


def check_images(samples: Sequence[Sample]) -> None:
    """Raises InvalidInput if local images are gone: check before the first step, not in the middle of the training."""
    local = {
        sample.image for sample in samples if not sample.image.startswith(WEB_SCHEMES) and "://" not in sample.image
    }
    files = {image: inside[0] if (inside := split_reference(image)) else image for image in local}
    gone = {file for file in set(files.values()) if not Path(file).is_file()}
    missing = sorted(image for image, file in files.items() if file in gone)
    if missing:
        raise InvalidInput(
            f"{len(missing)} image(s) of the set no longer exist. The first is {missing[0]}: "
            "put them back where they were, then retry the job."
        )


def _samples(table: pa.Table, *, is_replay: bool) -> list[Sample]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return [
        Sample(
            pair_id=row["pair_id"],
            image=row["image"],
            image_sha256=row["image_sha256"],
            task=row["task"],
            question=row["question"],
            answer=row["teacher_answer"],
            is_replay=is_replay,
            student_answer=row["student_answer"],
            votes=tuple(row["votes"] or ()),
            discrepancies={
                "vote_share": row["vote_share"],
                "confidence": row["confidence_gap"],
                "reasoning": row["reasoning_gap"],
                "attention": row["attention_gap"],
            },
            rationale=row["rationale"],
            teacher_top=_alternatives(row["teacher_top"]),
            teacher_attention=None if row["teacher_attention"] is None else tuple(map(float, row["teacher_attention"])),
        )
        for row in rows
        if row["question"] and row["teacher_answer"]
    ]


def _alternatives(column: list[list[dict[str, Any]]] | None) -> tuple[tuple[Alternative, ...], ...] | None:
    if column is None:
        return None
    return tuple(tuple(Alternative(entry["token"], entry["logprob"]) for entry in place) for place in column)
