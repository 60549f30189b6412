"""Student over HTTP at concurrency 32 against in-process batched ``generate`` on the same model.

    python -m benchmarks.serving.http_overhead --size 1m --size 40m

Both answer the same requests, from image file to text, in turns, so that a busy machine hits both. The server has its
own threads for requests and preparation, so it wants a second core; the ratio of each one's best round is the one that
other work on the machine disturbs least. Target: 0.9 of the in-process requests/s.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from pathlib import Path

from benchmarks.serving.in_process import InProcess, in_process
from benchmarks.serving.load import run_load
from benchmarks.serving.models import model_folder
from benchmarks.serving.report import report
from benchmarks.serving.student_process import student
from benchmarks.serving.workload import bodies, questions

DEFAULT_REQUESTS = {"1m": 192, "40m": 64}


def measure(size: str, options: argparse.Namespace, folder: Path) -> dict[str, object]:
    count = options.requests or DEFAULT_REQUESTS[size]
    model = model_folder(size, folder / size)
    environment = {"MPA_STUDENT_FEATURE_CACHE": "0"}
    with (
        student(model, folder / f"{size}-data", environment) as served,
        in_process(model, batch=options.clients, max_tokens=options.max_tokens) as local,
    ):
        _round(served.port, local, count // 2, 0, options)  # both are warm from here on
        rounds = [_round(served.port, local, count, seed, options) for seed in range(1, options.rounds + 1)]
    ratios = [http / alone for http, alone in rounds]
    return {
        "model": size,
        "http req/s": statistics.median(http for http, _ in rounds),
        "in-process req/s": statistics.median(alone for _, alone in rounds),
        "ratio": statistics.median(ratios),
        "ratio of the best": max(http for http, _ in rounds) / max(alone for _, alone in rounds),
        "ratios": " ".join(f"{ratio:.2f}" for ratio in ratios),
    }


def _round(port: int, local: InProcess, count: int, seed: int, options: argparse.Namespace) -> tuple[float, float]:
    """Requests a second (over HTTP, in process) on images that neither has seen."""
    asked = questions(count, seed=seed)
    load = asyncio.run(run_load(port, bodies(asked, max_tokens=options.max_tokens), clients=options.clients))
    assert not load.failures, load.failures[0]
    return load.per_second, count / local.seconds(asked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", action="append", choices=sorted(DEFAULT_REQUESTS))
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=12)
    parser.add_argument("--requests", type=int, help="a round; default 192 at 1m, 64 at 40m")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(size, options, Path(folder)) for size in options.size or sorted(DEFAULT_REQUESTS)]
    report("http_overhead", rows, "target: ratio at least 0.9")


if __name__ == "__main__":
    main()
