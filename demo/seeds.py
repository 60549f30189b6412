"""``python -m demo.seeds 0 1 2``: the demo once per seed, each with a pile of its own, and the mean over all.

What docs/demo.md reports. A seed whose result is already in the folder is not run again (``--again`` runs all).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table


def main() -> int:
    options = _options()
    results = [_result(seed, options) for seed in options.seeds]
    print_means(results, Console())
    return 0


def print_means(results: list[dict[str, Any]], console: Console) -> None:
    """Accuracies a family, mean over ``results`` (percent), with the spread of the gain."""
    table = Table(title=f"Mean of {len(results)} seeds, held-out labelled questions", title_justify="left")
    for column in ("family", "before", "after", "gain", "sd of gain", "teacher", "gap closed"):
        table.add_column(column, justify="left" if column == "family" else "right")
    for family in [*sorted(results[0]["accuracy"]), "overall"]:
        table.add_row(
            family, *_cells([r["overall"] if family == "overall" else r["accuracy"][family] for r in results])
        )
    console.print(table)
    for name, values in {
        "label accuracy in the disparity set": [f"{r['label_accuracy']:.1%}" for r in results],
        "disparity pairs": [str(r["verdicts"]["disparity"]) for r in results],
        "requests failed during training and swap": [str(r["swap"]["failed"]) for r in results],
        "seconds": [f"{r['seconds']:.0f}" for r in results],
    }.items():
        console.print(f"{name}: {', '.join(values)}")


def _cells(scores: list[dict[str, float]]) -> list[str]:
    before, after, teacher = (100 * mean(score[key] for score in scores) for key in ("before", "after", "teacher"))
    gains = [100 * (score["after"] - score["before"]) for score in scores]
    spread = f"{stdev(gains):.1f}" if len(gains) > 1 else ""
    closed = (after - before) / (teacher - before) if teacher > before else 0.0
    return [f"{before:.1f}", f"{after:.1f}", f"{after - before:+.1f}", spread, f"{teacher:.1f}", f"{closed:.0%}"]


def _result(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    folder = options.out / f"{options.split}-{seed}"
    path = folder / "result.json"
    if options.again or not path.exists():
        command = [sys.executable, "-m", "demo.run", "--seed", str(seed), "--split", options.split]
        subprocess.run([*command, "--data-dir", str(folder)], check=True)
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.seeds", description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--split", choices=["test", "dev"], default="test")
    parser.add_argument("--out", type=Path, default=Path(".mpa/demo-seeds"))
    parser.add_argument("--again", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
