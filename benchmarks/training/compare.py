"""``python -m benchmarks.training.compare``: our trainer against Hugging Face's Trainer and TRL's SFTTrainer.

Each contender runs in a process of its own, in turns. See contender.py for what is the same and what is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.serving.report import report
from benchmarks.training.contender import OURS, RIVALS
from benchmarks.training.models import SIZES, student_folder

AGAINST = {"ours": ("hf", "trl"), "ours_bucketed": ("hf", "trl"), "ours_frozen": ("hf_frozen", "trl_frozen")}
TARGETS = (
    "ratios are of samples/CPU s, to the faster of a rival with and without _eager; a frozen rival trains the same "
    "weights. Targets: ours at least 1.0 times hf and trl; ours_frozen (length bucketing, frozen vision, cached "
    "features) at least 1.5 times."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="demo")
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[*OURS, *RIVALS], choices=[*OURS, *RIVALS])
    given = parser.parse_args()
    names = [name for name in given.only if not name.startswith("trl") or _has_trl()]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        model = student_folder(given.size, Path(folder) / "student")
        sizes = ["--pairs", str(given.pairs), "--batch-size", str(given.batch_size), "--epochs", str(given.epochs)]
        for number in range(given.rounds):
            for name in names if number % 2 == 0 else reversed(names):
                work = Path(folder) / f"{name}-{number}"
                found[name].append(_run([name, "--model", str(model), "--work", str(work), *sizes], given.threads))
    rows = [_row(name, found) for name in names]
    missing = "" if _has_trl() else " TRL is not installed, so its rows are missing: pip install 'mpa[benchmarks]'."
    report(f"training-{given.size}", rows, TARGETS + missing)


def _has_trl() -> bool:
    return find_spec("trl") is not None and find_spec("datasets") is not None


def _run(arguments: Sequence[str], threads: int) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    line = [sys.executable, "-m", "benchmarks.training.contender", *arguments]
    done = subprocess.run(line, stdout=subprocess.PIPE, check=True, env=environment, timeout=1800)
    outcome: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    return outcome


def _row(name: str, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    own = found[name]
    row: dict[str, Any] = {
        "trainer": name,
        "samples/s": round(median(one["samples"] / one["seconds"] for one in own), 1),
        "samples/CPU s": _rate(own),
        "peak MiB": round(median(one["peak"] for one in own) / 2**20),
        "over the model MiB": round(median(one["peak"] - one["loaded"] for one in own) / 2**20),
        "loss": round(median(one["loss"] for one in own), 3),
    }
    for column, which in (("× hf", 0), ("× trl", 1)):
        rival = AGAINST[name][which] if name in AGAINST else ""
        rates = [_rate(found[one]) for one in (rival, f"{rival}_eager") if found.get(one)]
        row[column] = round(_rate(own) / max(rates), 2) if rates else "-"
    return row


def _rate(outcomes: list[dict[str, Any]]) -> float:
    """Samples a second of the processor: other work on the machine changes it little."""
    return round(median(one["samples"] / one["cpu_seconds"] for one in outcomes), 2)


if __name__ == "__main__":
    main()
