"""A small real disparity set: plain coloured pictures, whose colour is the answer."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from PIL import Image

from services.trainer.run_config import RunConfig
from shared.contracts import GateSpec, JobSpec, Split, TrainSpec, Verdict
from shared.sets import Row, set_digest, write_shard
from shared.store import Store

ROOT = Path(__file__).parents[3]
TASKS_FILE = ROOT / "demo" / "tasks.yaml"
COLOURS = {"red": (220, 20, 20), "green": (20, 180, 30), "blue": (30, 40, 230), "yellow": (240, 220, 20)}
QUESTION = "what colour is it?"
TRAIN = TrainSpec(batch_size=8, max_steps=40, learning_rate=3e-3, save_every_steps=10)
"""Enough to learn the colours."""


@dataclass(frozen=True)
class Counts:
    """How many pairs of each kind; replay by task."""

    disparity: int = 8
    replay: dict[str, int] = field(default_factory=lambda: {"text": 4, "know": 4})
    held_out: int = 4
    sizes: tuple[tuple[int, int], ...] = ((96, 96),)
    """Of the pictures, in turn."""


def picture(folder: Path, colour: str, seed: int, size: tuple[int, int] = (96, 96)) -> Path:
    """A PNG of nearly one colour, different for each seed."""
    rng = Random(seed)
    base = COLOURS[colour]
    image = Image.new("RGB", size, base)
    for _ in range(40):
        spot = (rng.randrange(size[0]), rng.randrange(size[1]))
        image.putpixel(spot, tuple(min(255, c + rng.randrange(20)) for c in base))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{seed:04d}-{colour}.png"
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    return path


def make_set(
    store: Store,
    job_id: str,
    images: Path,
    counts: Counts = Counts(),
    *,
    question: str = QUESTION,
    answers: Sequence[str] = tuple(COLOURS),
    named: Callable[[int, Path], str] = lambda _, path: str(path),
) -> None:
    """Write one shard with the pairs; each colour has its place in ``answers``. ``named``: as the set names an image,
    by its number and its file.
    """
    kinds = [("chart", Verdict.DISPARITY, Split.TRAIN)] * counts.disparity
    for task, number in counts.replay.items():
        kinds += [(task, Verdict.STUDENT_RIGHT, Split.TRAIN)] * number
    held_out = [Verdict.DISPARITY, Verdict.STUDENT_RIGHT]
    kinds += [("chart", held_out[i % 2], Split.HELD_OUT) for i in range(counts.held_out)]
    names = list(COLOURS)
    rows = []
    for index, (task, verdict, split) in enumerate(kinds):
        colour = names[index % len(names)]
        path = picture(images, colour, index, counts.sizes[index % len(counts.sizes)])
        rows.append(
            Row(
                job_id=job_id,
                shard=0,
                image_index=index,
                slot=0,
                image=named(index, path),
                image_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                task=task,
                split=split,
                verdict=verdict,
                question=question,
                teacher_answer=answers[index % len(names)],
                student_answer="unknown",
            )
        )
    write_shard(store, job_id, 0, rows)


def job_spec(train: TrainSpec, *, gate: GateSpec | None = None, benchmark: str | None = None, seed: int = 3) -> JobSpec:
    return JobSpec(
        images=[{"kind": "folder", "path": "unused"}],  # type: ignore[list-item]
        tasks=["chart"],
        train=train,
        gate=gate or GateSpec(),
        benchmark=benchmark,
        seed=seed,
    )


def run_config(tmp_path: Path, base: Path, train: TrainSpec, *, folder: str = "work", job_id: str = "j1") -> RunConfig:
    """A run over the set of ``job_id`` in ``tmp_path``/store."""
    store = Store((tmp_path / "store").as_uri())
    work = tmp_path / folder
    work.mkdir(parents=True, exist_ok=True)
    return RunConfig(
        job_id=job_id,
        spec=job_spec(train),
        folder=work,
        base_version="base",
        base_folder=base,
        store_url=store.url,
        cache_dir=tmp_path / "cache",
        set_digest=set_digest(store, job_id),
        tasks_file=TASKS_FILE,
        device="cpu",
        threads=1,
        eval_batch_size=8,
    )
