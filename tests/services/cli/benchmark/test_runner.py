"""Scoring, comparing and reading back what a run kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.benchmark.labelled import BenchmarkItem
from services.cli.benchmark.runner import (
    LONE_HALVES,
    Prediction,
    _line,
    compare,
    read_predictions,
    score,
    submission,
)
from shared.errors import InvalidInput

ITEMS = [
    BenchmarkItem("1", Path("a.png"), "q", ("14",), "human"),
    BenchmarkItem("2", Path("b.png"), "q", ("red",), "augmented"),
]


def test_official_metric_beside_containment_by_type() -> None:
    found = score("chartqa", ITEMS, {"1": "13.5", "2": "it is red"})
    assert found["types"]["human"]["official"] == 1.0 and found["types"]["human"]["containment"] == 0.0
    assert found["types"]["augmented"]["official"] == 0.0 and found["types"]["augmented"]["containment"] == 1.0
    assert found["overall"]["official"] == 0.5


def test_compare_refuses_other_questions() -> None:
    worse, better = score("chartqa", ITEMS, {"1": "1", "2": "x"}), score("chartqa", ITEMS, {"1": "14", "2": "red"})
    assert compare(worse, better)["difference"] == 1.0
    with pytest.raises(InvalidInput, match="same questions"):
        compare(worse, score("chartqa", ITEMS[:1], {"1": "14"}))


def test_a_cut_off_line_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"id": "1", "prediction": "14"}\n{"id": "2", "pre', encoding="utf-8")
    assert read_predictions(path) == {"1": Prediction("14")}


@pytest.mark.parametrize("text", ["a\u2028b", "c\x85d", "\x0c", "\r\n", "cut \ud83d", "日本"])
def test_an_answer_is_kept_as_it_came(tmp_path: Path, text: str) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text(_line("1", Prediction(text)) * 2, encoding="utf-8", errors=LONE_HALVES)
    assert read_predictions(path) == {"1": Prediction(text)}


def test_a_line_that_was_cut_off_inside_a_character_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(_line("1", Prediction("日")).encode() + _line("2", Prediction("本")).encode()[:-28])
    assert read_predictions(path) == {"1": Prediction("日")}


def test_submission_has_numeric_ids() -> None:
    assert submission({"1": "a", "2": "b"}, ITEMS)[0] == {"question_id": 1, "answer": "a"}
