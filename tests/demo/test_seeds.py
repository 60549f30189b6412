from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from demo.seeds import print_means


def result(before: float, after: float, teacher: float, failed: int = 0) -> dict[str, Any]:
    score = {"before": before, "after": after, "teacher": teacher}
    return {
        "accuracy": {"chart": score, "know": score},
        "overall": score,
        "label_accuracy": 0.97,
        "verdicts": {"disparity": 1200},
        "swap": {"failed": failed},
        "seconds": 301.4,
    }


def printed(*results: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=160)
    print_means(list(results), console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_means_and_the_share_of_the_gap() -> None:
    (row,) = (line for line in printed(result(0.5, 0.7, 0.9), result(0.4, 0.7, 0.9)).splitlines() if "overall" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["overall", "45.0", "70.0", "+25.0", "7.1", "90.0", "56%"]


def test_failures_of_every_seed_are_shown() -> None:
    assert "requests failed during training and swap: 0, 2" in printed(result(0.5, 0.7, 0.9), result(0.5, 0.7, 0.9, 2))
