"""Mining in one process: the pairs of a pile with all that the parity workers would have found about them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from demo.ablation.arms import Pairs
from demo.ablation.measuring import Item, Meter
from demo.answering import Answerer, Sampling
from demo.simulation.pairs import annotate
from demo.world.export import MANIFEST, write_pile
from demo.world.generator import pile
from demo.world.pictures import Picture
from demo.world.prompts import EXPLAIN
from demo.world.vocabulary import REFUSAL
from demo.world.vocabulary import Split as WorldSplit
from shared.contracts import Split, Verdict
from shared.sets import Row, write_shard
from shared.store import Store

VOTES = 3
TOP_K = 20
GRID = 8
RATIONALE_TOKENS = 16


@dataclass(frozen=True)
class Pile:
    """Unlabeled images on disk, and (for evaluation and the ground-truth arm alone) what they show."""

    folder: Path
    pictures: list[Picture]
    paths: list[str]
    digests: list[str]


@dataclass(frozen=True)
class Mined:
    """A pair before any arm has decided on it: a row without its verdict, and the world's answer."""

    row: Row
    truth: str

    @property
    def student_right(self) -> bool:
        return self.row.student_answer == self.row.teacher_answer


def draw(folder: Path, images: int, seed: int) -> Pile:
    """``images`` pictures of the train split, written below ``folder``."""
    if not (folder / MANIFEST).exists():
        write_pile(folder, images, seed, WorldSplit.TRAIN)
    pictures = list(pile(images, seed, WorldSplit.TRAIN))
    paths = [str((folder / f"{p.family}/{index:05d}.png").resolve()) for index, p in enumerate(pictures)]
    return Pile(folder, pictures, paths, [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths])


def mine(pile: Pile, teacher: Path, student: Path, questions: int, seed: int, round_: int = 1) -> list[Mined]:
    """Ask, answer, compare and vote; where the two disagree, measure everything. Refused questions are left out.

    Every pair is voted on, because one arm wants to know which labels are self-consistent whatever the student says.
    """
    strong, weak = Answerer(teacher), Answerer(student)
    # one round must not ask what another asked
    pairs = [p for p in annotate(strong, pile.pictures, questions, seed * 100 + round_) if p.teacher != REFUSAL]
    images = [pile.pictures[pair.index].pixels for pair in pairs]
    asked = [pair.question for pair in pairs]
    answers = weak.answer(images, asked)
    rounds = [strong.answer(images, asked, sampling=Sampling(1.0)) for _ in range(VOTES)]
    slots: dict[int, int] = {}
    mined = []
    for pair, said, *votes in zip(pairs, answers, *rounds, strict=True):
        slots[pair.index] = slots.get(pair.index, -1) + 1
        picture = pile.pictures[pair.index]
        row = Row(
            job_id="",
            shard=0,
            image_index=pair.index,
            slot=slots[pair.index],
            image=pile.paths[pair.index],
            image_sha256=pile.digests[pair.index],
            task=picture.family,
            split=Split.TRAIN,
            verdict=Verdict.DISPARITY,
            question=pair.question,
            teacher_answer=pair.teacher,
            student_answer=said,
            student_version="base" if round_ == 1 else f"round-{round_ - 1}",
            votes=tuple(votes),
            vote_share=votes.count(pair.teacher) / len(votes),
            teacher_model="teacher",
            round=round_,
        )
        mined.append(Mined(row, picture.truth(pair.question)))
    return _measured(pile, mined, strong, teacher, student)


def _measured(pile: Pile, mined: list[Mined], strong: Answerer, teacher: Path, student: Path) -> list[Mined]:
    places = [place for place, one in enumerate(mined) if not one.student_right]
    rows = [mined[place].row for place in places]
    images = [pile.pictures[row.image_index].pixels for row in rows]
    whys = [EXPLAIN.format(question=row.question, answer=row.teacher_answer) for row in rows]
    rationales = strong.answer(images, whys, max_new_tokens=RATIONALE_TOKENS)
    labels: list[Item] = [(i, str(r.question), str(r.teacher_answer)) for i, r in zip(images, rows, strict=True)]
    reasons: list[Item] = list(zip(images, whys, rationales, strict=True))
    given: list[Item] = [(i, str(r.question), str(r.student_answer)) for i, r in zip(images, rows, strict=True)]
    above, below = Meter(teacher), Meter(student)
    columns = {
        "teacher_label": above.forced(labels, TOP_K),
        "student_label": below.forced(labels),
        "student_own": below.forced(given),
        "teacher_reason": above.forced(reasons),
        "student_reason": below.forced(reasons),
    }
    maps = zip(above.attention(labels, GRID), below.attention(labels, GRID), strict=True)
    found = list(mined)
    for number, (place, row, (there, here)) in enumerate(zip(places, rows, maps, strict=True)):
        by = {name: values[number] for name, values in columns.items()}
        measured = replace(
            row,
            teacher_logprob=by["teacher_label"].logprob,
            teacher_top=by["teacher_label"].top,
            student_logprob=by["student_own"].logprob,
            gap_logprob=by["student_label"].logprob,
            rationale=rationales[number] or None,
            teacher_rationale_logprob=by["teacher_reason"].logprob,
            student_rationale_logprob=by["student_reason"].logprob,
            teacher_attention=there,
            student_attention=here,
            confidence_gap=max(0.0, math.exp(by["teacher_label"].logprob) - math.exp(by["student_label"].logprob)),
            reasoning_gap=max(0.0, math.exp(by["teacher_reason"].logprob) - math.exp(by["student_reason"].logprob)),
        )
        found[place] = replace(mined[place], row=measured)
    return found


def write_set(store: Store, job_id: str, mined: Sequence[Mined], pairs: Pairs) -> int:
    """The set of one arm as the parity workers would have written it; returns its number of disparity pairs."""
    rows = [row for one in mined if (row := _decided(one, pairs)) is not None]
    result = write_shard(store, job_id, 0, [replace(row, job_id=job_id) for row in rows])
    return result.train_disparity


def _decided(one: Mined, pairs: Pairs) -> Row | None:
    """The row with its verdict; None where the arm has no use for the pair."""
    row, share = one.row, one.row.vote_share or 0.0
    sure = replace(row, verdict=Verdict.DISPARITY)
    if pairs is Pairs.TRUTH:
        if one.truth == REFUSAL:
            return None
        right = row.student_answer == one.truth
        return replace(row, teacher_answer=one.truth, verdict=_verdict(right))
    if pairs is Pairs.EVERYTHING:
        return sure
    if pairs is Pairs.CONSISTENT:
        return sure if share == 1.0 else None
    if one.student_right:
        return replace(row, verdict=Verdict.STUDENT_RIGHT)
    needed = 1.0 if pairs is Pairs.PARITY else 1 / VOTES
    return sure if share >= needed else replace(row, verdict=Verdict.TEACHER_INCONSISTENT)


def _verdict(student_right: bool) -> Verdict:
    return Verdict.STUDENT_RIGHT if student_right else Verdict.DISPARITY
