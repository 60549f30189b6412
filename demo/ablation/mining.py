"""Mining in one process: the pairs of a pile with everything that the parity workers would have measured."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from demo.ablation.arms import Pairs
from demo.ablation.measuring import Meter
from demo.answering import Answerer, Pixels, Sampling
from demo.simulation.pairs import annotate
from demo.world.export import MANIFEST, write_pile
from demo.world.generator import pile
from demo.world.pictures import Picture
from demo.world.prompts import EXPLAIN
from demo.world.vocabulary import REFUSAL
from demo.world.vocabulary import Split as WorldSplit
from shared.contracts import Split, Verdict
from shared.discrepancies import attention_gap, confidence_gap, reasoning_gap
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


@dataclass(frozen=True)
class Wanted:
    """What is measured besides the answers. ``votes_on_all``: votes also on pairs that the student has right."""

    votes_on_all: bool = True
    reasoning: bool = True
    attention: bool = True


def mine(
    pile: Pile, teacher: Path, student: Path, questions: int, seed: int, round_: int = 1, wanted: Wanted | None = None
) -> list[Mined]:
    """Ask, answer, compare and vote; where the two disagree, measure. Refused questions are left out."""
    strong, weak = Answerer(teacher), Answerer(student)
    # a round must not repeat the questions of another
    pairs = [p for p in annotate(strong, pile.pictures, questions, seed * 100 + round_) if p.teacher != REFUSAL]
    answers = weak.answer(_images(pile, [pair.index for pair in pairs]), [pair.question for pair in pairs])
    slots: dict[int, int] = {}
    mined = []
    for pair, said in zip(pairs, answers, strict=True):
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
            teacher_model="teacher",
            round=round_,
        )
        mined.append(Mined(row, picture.truth(pair.question)))
    wanted = wanted or Wanted()
    voted = _voted(pile, mined, strong, wanted)
    return _measured(pile, voted, strong, Meter(teacher), Meter(student), wanted)


def _voted(pile: Pile, mined: list[Mined], strong: Answerer, wanted: Wanted) -> list[Mined]:
    found = list(mined)
    places = [place for place, one in enumerate(mined) if wanted.votes_on_all or not one.student_right]
    rows = [mined[place].row for place in places]
    images, asked = _images(pile, [row.image_index for row in rows]), [str(row.question) for row in rows]
    rounds = [strong.answer(images, asked, sampling=Sampling(1.0)) for _ in range(VOTES)]
    for place, row, *votes in zip(places, rows, *rounds, strict=True):
        share = votes.count(row.teacher_answer) / VOTES
        found[place] = replace(mined[place], row=replace(row, votes=tuple(votes), vote_share=share))
    return found


def _measured(
    pile: Pile, mined: list[Mined], strong: Answerer, above: Meter, below: Meter, wanted: Wanted
) -> list[Mined]:
    found = list(mined)
    places = [place for place, one in enumerate(mined) if not one.student_right]
    rows = [mined[place].row for place in places]
    images = _images(pile, [row.image_index for row in rows])
    asked = [(image, str(row.question)) for image, row in zip(images, rows, strict=True)]
    labels = [str(row.teacher_answer) for row in rows]
    tops = above.forced(asked, [[label] for label in labels], TOP_K)
    gaps = below.forced(asked, [[label, str(row.student_answer)] for label, row in zip(labels, rows, strict=True)])
    for number, (top,), (gap, own) in zip(range(len(rows)), tops, gaps, strict=True):
        rows[number] = replace(
            rows[number],
            teacher_logprob=top.logprob,
            teacher_top=top.top,
            gap_logprob=gap.logprob,
            student_logprob=own.logprob,
            confidence_gap=confidence_gap(top.logprob, gap.logprob),
        )
    if wanted.reasoning:
        rows = _explained(rows, images, strong, above, below)
    if wanted.attention:
        maps = zip(above.attention(asked, labels, GRID), below.attention(asked, labels, GRID), strict=True)
        rows = [
            replace(row, teacher_attention=there, student_attention=here, attention_gap=attention_gap(there, here))
            for row, (there, here) in zip(rows, maps, strict=True)
        ]
    for place, row in zip(places, rows, strict=True):
        found[place] = replace(mined[place], row=row)
    return found


def _explained(
    rows: Sequence[Row], images: Sequence[Pixels], strong: Answerer, above: Meter, below: Meter
) -> list[Row]:
    whys = [EXPLAIN.format(question=row.question, answer=row.teacher_answer) for row in rows]
    asked = list(zip(images, whys, strict=True))
    said = strong.answer(images, whys, max_new_tokens=RATIONALE_TOKENS)
    there = above.forced(asked, [[one] for one in said])
    here = below.forced(asked, [[one] for one in said])
    return [
        replace(
            row,
            rationale=one or None,
            teacher_rationale_logprob=strongly.logprob,
            student_rationale_logprob=weakly.logprob,
            reasoning_gap=reasoning_gap(strongly.logprob, weakly.logprob),
        )
        for row, one, (strongly,), (weakly,) in zip(rows, said, there, here, strict=True)
    ]


def _images(pile: Pile, indices: Sequence[int]) -> list[Pixels]:
    return [pile.pictures[index].pixels for index in indices]


def write_set(store: Store, job_id: str, mined: Sequence[Mined], pairs: Pairs, shard: int = 0) -> int:
    """The set of one arm as the parity workers would have written it, a shard a round; returns its number of disparity
    pairs.
    """
    rows = [row for one in mined if (row := _decided(one, pairs)) is not None]
    result = write_shard(store, job_id, shard, [replace(row, job_id=job_id) for row in rows])
    return result.train_disparity


def _decided(one: Mined, pairs: Pairs) -> Row | None:
    """The row with its verdict; None if the arm does not use the pair."""
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
