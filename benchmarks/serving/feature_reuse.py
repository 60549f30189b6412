"""Requests/s with reused image features against none reused, five questions an image.

    python -m benchmarks.serving.feature_reuse --size smol --size 1m

Two students run beside each other, one with MPA_STUDENT_FEATURE_CACHE=0, and answer the same requests in turns.
Target: 2.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from pathlib import Path

from benchmarks.serving.load import run_load
from benchmarks.serving.models import SIZES, model_folder
from benchmarks.serving.report import report
from benchmarks.serving.student_process import student
from benchmarks.serving.workload import bodies, questions

DEFAULT_REQUESTS = {"1m": 320, "40m": 80, "smol": 80}


def measure(size: str, options: argparse.Namespace, folder: Path) -> dict[str, object]:
    count = options.requests or DEFAULT_REQUESTS[size]
    model = model_folder(size, folder / size)
    with (
        student(model, folder / f"{size}-with") as reusing,
        student(model, folder / f"{size}-without", {"MPA_STUDENT_FEATURE_CACHE": "0"}) as plain,
    ):

        def per_second(port: int, seed: int) -> float:
            asked = questions(count, per_image=options.per_image, seed=seed)
            load = asyncio.run(run_load(port, bodies(asked, max_tokens=options.max_tokens), clients=options.clients))
            assert not load.failures, load.failures[0]
            return load.per_second

        per_second(reusing.port, 0), per_second(plain.port, 0)  # both are warm from here on
        rounds = [(per_second(reusing.port, n), per_second(plain.port, n)) for n in range(1, options.rounds + 1)]
    ratios = [reused / anew for reused, anew in rounds]
    return {
        "model": size,
        "questions an image": options.per_image,
        "req/s reused": statistics.median(reused for reused, _ in rounds),
        "req/s anew": statistics.median(anew for _, anew in rounds),
        "ratio": statistics.median(ratios),
        "ratios": " ".join(f"{ratio:.2f}" for ratio in ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", action="append", choices=SIZES)
    parser.add_argument("--per-image", type=int, default=5)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=12)
    parser.add_argument("--requests", type=int, help="a round; default 320 at 1m, else 80")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(size, options, Path(folder)) for size in options.size or ("smol", "1m")]
    report("feature_reuse", rows, "target: ratio at least 2")


if __name__ == "__main__":
    main()
