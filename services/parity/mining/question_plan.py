"""What a round asks about an image: how many questions per task, which ones are old, and an example to follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.parity.images.picture import derive_seed
from shared.contracts import JobSpec, ManifestEntry, RoundReport, TaskShare
from shared.sets import read_shard
from shared.store import Store
from shared.vqa.answers import normalise_question


@dataclass(frozen=True)
class ImagePlan:
    """One image and task in one round.

    ``asked``: the normalised questions of earlier rounds, with where each was asked. ``example``: a question that the
    teacher is asked to imitate, or "". ``slots``: the only ones that are wanted; None: all.
    """

    questions: int
    asked: Mapping[str, str] = field(default_factory=dict)
    example: str = ""
    slots: frozenset[int] | None = None


@dataclass(frozen=True)
class RoundPlan:
    """A round of one shard.

    ``last``: the round before. ``counts``: questions per (image index, task), where they differ from the spec's.
    ``asked``: per (image index, task), the questions of earlier rounds.
    """

    spec: JobSpec
    number: int = 1
    last: RoundReport | None = None
    counts: Mapping[tuple[int, str], int] = field(default_factory=dict)
    asked: Mapping[tuple[int, str], Mapping[str, str]] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The job's seed in round 1, and a different one in each later round, so that it samples new questions."""
        return self.spec.seed if self.number == 1 else derive_seed(self.spec.seed, "round", self.number)

    def for_image(self, index: int, sha256: str | None, task: str) -> ImagePlan:
        """What is asked about one image. The ``sha256`` of its content selects the example."""
        questions = self.counts.get((index, task), self.spec.annotator.questions_per_image)
        return ImagePlan(questions, self.asked.get((index, task), {}), self._example(sha256 or "", task))

    def _example(self, sha256: str, task: str) -> str:
        failed = self.last.failed_questions.get(task, []) if self.last is not None and self.spec.rounds.steer else []
        return failed[derive_seed(self.seed, sha256, task, "example") % len(failed)] if failed else ""


def questions_each(
    entries: Sequence[ManifestEntry], questions: int, shares: Mapping[str, TaskShare]
) -> dict[tuple[int, str], int]:
    """Questions per (image index, task) of a whole manifest: more for tasks with a high disparity rate.

    Each image and task gets one question. The others, ``questions`` - 1 per image and task on average, are distributed
    by rate, so the total stays the same to within one question per task. Rates are smoothed (Laplace), so that a task
    without checked pairs keeps some.
    """
    images = Counter(task for entry in entries for task in entry.tasks)
    rates = {task: _rate(shares.get(task, TaskShare())) for task in images}
    mean = sum(rates[task] * count for task, count in images.items()) / images.total()
    each = {task: 1 + (questions - 1) * rates[task] / mean for task in images}
    seen: Counter[str] = Counter()
    counts = {}
    for entry in entries:
        for task in entry.tasks:
            before, after = (int(n * each[task] + 1e-9) for n in (seen[task], seen[task] + 1))
            counts[entry.index, task] = after - before
            seen[task] += 1
    return counts


def asked_before(
    store: Store, job_id: str, part: int, shards: int, number: int
) -> dict[tuple[int, str], dict[str, str]]:
    """The questions that rounds before ``number`` asked about the images of shard ``part`` of each round.

    By (image index, task): each normalised question, with where it was asked.
    """
    asked: dict[tuple[int, str], dict[str, str]] = {}
    for earlier in range(1, number):
        rows = read_shard(store, job_id, (earlier - 1) * shards + part)
        for row in rows.select(["image_index", "task", "slot", "question"]).to_pylist():
            if row["question"]:
                known = asked.setdefault((row["image_index"], row["task"]), {})
                known.setdefault(normalise_question(row["question"]), f"slot {row['slot']} of round {earlier}")
    return asked


def _rate(share: TaskShare) -> float:
    return (share.disparity + 1) / (share.checked + 2)
