"""Piles on disk: unlabeled images with a manifest for a job, or a labelled benchmark for evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image

from demo.world.generator import labelled, pile
from demo.world.pictures import Picture
from demo.world.vocabulary import FAMILIES, Split

MANIFEST, BENCHMARK = "manifest.jsonl", "benchmark.jsonl"
ANNOTATORS = 10
"""Answers a question, as in VQA: its official metric leaves each one out in turn and compares with the others."""


def write_pile(folder: Path, count: int, seed: int, split: Split) -> Path:
    """Write ``count`` images and their manifest (image and family, no label of any kind); returns the manifest."""
    pictures = list(pile(count, seed, split))
    paths = _write_images(folder, pictures)
    lines = ({"image": path, "task": picture.family} for path, picture in zip(paths, pictures, strict=True))
    return _write_lines(folder / MANIFEST, lines)


def write_benchmark(folder: Path, count: int, seed: int, split: Split, questions_each: int = 2) -> Path:
    """Write ``count`` images and ``questions_each`` questions with answers about each; returns the JSONL file."""
    pictures = list(pile(count, seed, split))
    paths = _write_images(folder, pictures)
    lines = (
        {
            "image": paths[example.index],
            "task": pictures[example.index].family,
            "question": example.question.text,
            "answers": [example.question.answer] * ANNOTATORS,
            "type": example.question.kind,
        }
        for example in labelled(pictures, seed, questions_each)
    )
    return _write_lines(folder / BENCHMARK, lines)


def _write_images(folder: Path, pictures: list[Picture]) -> list[str]:
    for family in FAMILIES:
        (folder / family).mkdir(parents=True, exist_ok=True)
    paths = [f"{picture.family}/{index:05d}.png" for index, picture in enumerate(pictures)]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture.pixels).save(folder / path)
    return paths


def _write_lines(path: Path, lines: Iterable[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
