"""How clean the kept labels are, by vote share and by the teacher's confidence: ``python -m demo.label_noise``.

Uses the pairs that the ablation mined (or mines them), or those of a teacher that is made worse by
noise on its weights. The world's own answers are read here, in evaluation only.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from demo.ablation.arms import Pairs
from demo.ablation.mining import VOTES, Mined, Wanted, draw, mine
from demo.ablation.running import PILE_SEED, Settings, prepare
from demo.world.generator import pile
from demo.world.pictures import Picture
from demo.world.vocabulary import REFUSAL, Split
from shared.sets import read_set

MODELS = Path(__file__).resolve().parent / "models"
CONFIDENCES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)
REASONS = (0.5, 0.8, 0.9)
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Label:
    """A teacher's answer. ``agreed``: the student gives it too, so no rule looks at it.

    ``vote_share``, ``confidence`` (the answer's mean token probability) and ``reason`` (that of its rationale,
    0 if it has none) are in [0, 1]. ``applies``: whether the question has an answer at all; if not, only the refusal
    is right.
    """

    vote_share: float
    confidence: float
    reason: float
    right: bool
    applies: bool = True
    agreed: bool = False


@dataclass(frozen=True)
class Kept:
    """What a rule keeps. ``senseless``: wrong labels whose question does not apply to its picture; ``precision``: share
    of the kept labels that are right; ``recall``: share of the right labels that are kept.
    """

    vote_share: float
    confidence: float
    reason: float
    kept: int
    wrong: int
    senseless: int
    precision: float
    recall: float


def sweep(labels: Sequence[Label]) -> list[Kept]:
    """One line for each pair of thresholds, then, at a full vote, those of the rationale."""
    shares = [votes / VOTES for votes in range(VOTES + 1)]
    rules = [(share, confidence, 0.0) for share in shares for confidence in CONFIDENCES]
    return [keep(labels, *rule) for rule in rules + [(1.0, 0.0, reason) for reason in REASONS]]


def keep(labels: Sequence[Label], vote_share: float, confidence: float, reason: float) -> Kept:
    """What a rule with these minimum values keeps. If it keeps nothing, the precision is 0."""
    kept = [
        one for one in labels if one.vote_share >= vote_share and one.confidence >= confidence and one.reason >= reason
    ]
    good = sum(one.right for one in kept)
    right = sum(one.right for one in labels)
    return Kept(
        vote_share,
        confidence,
        reason,
        len(kept),
        len(kept) - good,
        sum(not one.right and not one.applies for one in kept),
        good / max(1, len(kept)),
        good / max(1, right),
    )


def labels_of(rows: Iterable[Mapping[str, Any]], pictures: Sequence[Picture]) -> list[Label]:
    """The labels of rows with the columns of `shared.sets`."""
    return [_label(row, pictures[row["image_index"]]) for row in rows]


def stopped_by_one(labels: Sequence[Label], confidence: float) -> tuple[int, int]:
    """The number of wrong labels that only this minimum confidence stops, and of those that only a full vote stops."""
    wrong = [(one.confidence >= confidence, one.vote_share == 1.0) for one in labels if not one.right]
    return wrong.count((False, True)), wrong.count((True, False))


def weakened(teacher: Path, folder: Path, noise: float, seed: int) -> Path:
    """A copy of ``teacher`` in ``folder`` whose matrices have Gaussian noise of ``noise`` times their own spread."""
    shutil.copytree(teacher, folder, dirs_exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = load_file(teacher / WEIGHTS)
    noisy = {
        name: (one + noise * one.float().std() * torch.randn(one.shape, generator=generator)).to(one.dtype)
        if one.ndim > 1
        else one
        for name, one in sorted(tensors.items())
    }
    save_file(noisy, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    labels = [label for seed in options.seeds for label in _gather(options, seed)]
    agreed, disputed = ([one for one in labels if one.agreed is said] for said in (True, False))
    found = sweep(disputed)
    result = {
        "settings": {"seeds": options.seeds, "images": options.images, "noise": options.noise},
        "agreed": {"labels": len(agreed), "wrong": sum(not one.right for one in agreed)},
        "stopped_by_confidence_or_votes_only": {one: stopped_by_one(disputed, one) for one in CONFIDENCES[1:]},
        "rules": [asdict(one) for one in found],
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(table(found))
    print(f"\nOf the answers that the student gives too: {result['agreed']}")
    print(f"Wrong, stopped by this confidence or a full vote only: {result['stopped_by_confidence_or_votes_only']}")


def table(found: Sequence[Kept]) -> str:
    """The table in Markdown."""
    lines = [
        "| votes ≥ | confidence ≥ | reason ≥ | kept | wrong | of them senseless | precision | recall |",
        "|---" * 8 + "|",
    ]
    for one in found:
        votes = f"{round(one.vote_share * VOTES)} of {VOTES}"
        figures = f"{one.kept} | {one.wrong} | {one.senseless} | {one.precision:.1%} | {one.recall:.1%}"
        lines.append(f"| {votes} | {one.confidence or '–'} | {one.reason or '–'} | {figures} |")
    return "\n".join(lines)


def _gather(options: argparse.Namespace, seed: int) -> list[Label]:
    teacher, student = options.models / "teacher", options.models / "student"
    if options.noise:
        folder = options.out / f"weakened-{options.noise}"
        drawn = draw(folder / f"pile-{seed}", options.images, PILE_SEED + seed)
        weak = weakened(teacher, folder / "teacher", options.noise, seed)
        wanted = Wanted(votes_on_all=False, reasoning=True, attention=False)
        mined = mine(drawn, weak, student, options.questions, seed, wanted=wanted)
        return labels_of(map(_row, mined), drawn.pictures)
    settings = Settings(options.out, teacher, student, options.images, options.questions)
    prepare(settings, seed)
    rows = read_set(settings.store(seed), str(Pairs.EVERYTHING)).to_pylist()
    return labels_of(rows, list(pile(options.images, PILE_SEED + seed, Split.TRAIN)))


def _label(row: Mapping[str, Any], picture: Picture) -> Label:
    truth = picture.truth(row["question"])
    return Label(
        row["vote_share"] or 0.0,
        _probability(row["teacher_logprob"]),
        _probability(row["teacher_rationale_logprob"]),
        right=row["teacher_answer"] == truth,
        applies=truth != REFUSAL,
        agreed=row["teacher_answer"] == row["student_answer"],
    )


def _row(mined: Mined) -> Mapping[str, Any]:
    return vars(mined.row)


def _probability(logprob: float | None) -> float:
    return 0.0 if logprob is None else math.exp(logprob)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.label_noise", description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--images", type=int, default=1500, help="images of a pile, as in the ablation")
    parser.add_argument("--questions", type=int, default=2, help="questions an image, as in the ablation")
    parser.add_argument("--noise", type=float, default=0.0, help="make the teacher worse; 0 leaves it as it is")
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--out", type=Path, default=Path(".mpa/ablation"))
    parser.add_argument("--json", type=Path, default=Path(".mpa/label-noise.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
