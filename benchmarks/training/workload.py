"""What is learned: the demo world's pictures, with answers of mixed length, as a disparity set."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from random import Random

from PIL import Image

from demo.world.generator import labelled, pile
from shared.contracts import Split, Verdict
from shared.sets import Row, write_shard
from shared.store import Store

JOB = "bench"
SEED = 20_261_123
LONG_SHARE = 0.3
LONG_WORDS = (10, 60)


@dataclass(frozen=True)
class Pair:
    """One question, its answer, and the image file."""

    image: Path
    task: str
    question: str
    answer: str


def make_pairs(folder: Path, count: int, seed: int = SEED) -> list[Pair]:
    """``count`` pairs, two an image. Most answers are the demo's (a word or two); the others are as long as a
    rationale: the picture's own words over and over, LONG_WORDS of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = list(pile(-(-count // 2), seed, "train"))
    files = []
    for number, picture in enumerate(pictures):
        files.append(folder / f"{number:05d}.png")
        Image.fromarray(picture.pixels).save(files[-1])
    rng = Random(seed)
    pairs = []
    for one in labelled(pictures, seed)[:count]:
        answer = one.question.answer
        if rng.random() < LONG_SHARE:
            words = (one.question.text.rstrip("?") + " " + answer).split()
            answer = " ".join(words[i % len(words)] for i in range(rng.randint(*LONG_WORDS)))
        pairs.append(Pair(files[one.index], pictures[one.index].family, one.question.text, answer))
    return pairs


def publish(store: Store, pairs: list[Pair]) -> None:
    """The pairs as the disparity set of job ``bench``, without replay."""
    rows = [
        Row(
            job_id=JOB,
            shard=0,
            image_index=index,
            slot=0,
            image=str(pair.image),
            image_sha256=hashlib.sha256(pair.image.read_bytes()).hexdigest(),
            task=pair.task,
            split=Split.TRAIN,
            verdict=Verdict.DISPARITY,
            question=pair.question,
            teacher_answer=pair.answer,
            student_answer="",
        )
        for index, pair in enumerate(pairs)
    ]
    write_shard(store, JOB, 0, rows)
