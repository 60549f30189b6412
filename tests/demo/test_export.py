from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from demo.world.__main__ import main
from demo.world.export import write_benchmark, write_pile
from demo.world.generator import pile
from demo.world.vocabulary import FAMILIES, Split


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_unlabeled_pile_names_images_and_families_and_nothing_else(tmp_path: Path) -> None:
    rows = read(write_pile(tmp_path, 8, 1, Split.TRAIN))
    assert [row["task"] for row in rows] == [*FAMILIES, *FAMILIES]
    assert all(set(row) == {"image", "task"} for row in rows)
    for row in rows:
        with Image.open(tmp_path / str(row["image"])) as image:
            assert image.size == (96, 96)


def test_the_image_files_are_the_pictures_of_the_pile(tmp_path: Path) -> None:
    rows = read(write_pile(tmp_path, 4, 1, Split.TRAIN))
    for row, picture in zip(rows, pile(4, 1, Split.TRAIN), strict=True):
        with Image.open(tmp_path / str(row["image"])) as image:
            assert image.tobytes() == picture.pixels.tobytes()


def test_a_benchmark_has_true_answers(tmp_path: Path) -> None:
    rows = read(write_benchmark(tmp_path, 8, 2, Split.TEST))
    pictures = list(pile(8, 2, Split.TEST))
    assert len(rows) == 16
    for row in rows:
        picture = pictures[int(Path(str(row["image"])).stem)]
        assert row["answers"] == [picture.truth(str(row["question"]))] * 10
        assert str(row["type"]).startswith(f"{row['task']}.")


def test_the_command_writes_a_pile(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "demo.world", "--out", str(tmp_path), "--images", "4", "--seed", "1"]
    done = subprocess.run([*command, "--split", "dev", "--labelled"], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).name == "benchmark.jsonl"
    assert len(read(tmp_path / "benchmark.jsonl")) == 8


def test_a_pile_of_no_images_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo.world", "--out", str(tmp_path), "--images", "0"])
    with pytest.raises(SystemExit):
        main()
    assert "--images must be at least 1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
