"""Reading labelled benchmarks: good lines, and every kind of bad one by its number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.trainer.evaluation.benchmark import read_benchmark
from shared.errors import InvalidInput

GOOD = {"image": "a.png", "task": "chart", "question": "q?", "answers": ["1", "one"], "type": "count"}


def write(tmp_path: Path, *lines: Any) -> Path:
    (tmp_path / "a.png").write_bytes(b"x")
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_images_are_relative_to_the_file(tmp_path: Path) -> None:
    (item, web) = read_benchmark(write(tmp_path, GOOD, "", {**GOOD, "image": "https://x.org/a.png"}), {"chart"})
    assert item.image == str(tmp_path / "a.png")
    assert (item.answers, item.kind) == (("1", "one"), "count")
    assert web.image == "https://x.org/a.png"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[1]", "an object was expected"),
        ({**GOOD, "image": "missing.png"}, r"missing\.png does not exist"),
        ({**GOOD, "task": "nope"}, "unknown task 'nope'"),
        ({**GOOD, "answers": []}, "'answers'"),
        ({**GOOD, "answers": "one"}, "'answers'"),
        ({**GOOD, "answers": [1]}, "'answers'"),
        ({**GOOD, "question": ""}, "'question'"),
        ({"task": "chart"}, "'image'"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: Any, problem: str) -> None:
    with pytest.raises(InvalidInput, match=f"labels.jsonl, line 2: .*{problem}"):
        read_benchmark(write(tmp_path, GOOD, line), {"chart"})


def test_no_file_and_no_lines(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_benchmark(tmp_path / "none.jsonl", {"chart"})
    with pytest.raises(InvalidInput, match="no lines"):
        read_benchmark(write(tmp_path, "", ""), {"chart"})
