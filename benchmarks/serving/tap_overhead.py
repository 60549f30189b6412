"""What a request costs the student in CPU time with the traffic tap at 10 % and at 100 %, against off.

    python -m benchmarks.serving.tap_overhead

Three services take turns on the same images, all of them new to each, so that at 100 % every request writes a file.
CPU time, because other work on the machine changes it little, and because a turn's samples are written partly after
its last answer: a turn ends when its tap has nothing left to write.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import httpx

from benchmarks.serving.load import run_load
from benchmarks.serving.models import DEMO_STUDENT
from benchmarks.serving.report import report
from benchmarks.serving.student_process import StudentProcess, student
from benchmarks.serving.workload import bodies, questions

SHARES = (0.0, 0.1, 1.0)
DRAIN_SECONDS = 60.0


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    costs: dict[float, list[float]] = {share: [] for share in SHARES}
    with ExitStack() as stack:
        served = {share: stack.enter_context(_student(share, folder / str(share))) for share in SHARES}
        for seed in range(options.rounds + 1):  # the first round warms them
            asked = bodies(questions(options.requests, seed=seed), max_tokens=options.max_tokens)
            turns = SHARES[seed % len(SHARES) :] + SHARES[: seed % len(SHARES)]
            for share in turns:
                before = served[share].cpu_seconds()
                load = asyncio.run(run_load(served[share].port, asked, clients=options.clients))
                assert not load.failures, load.failures[0]
                _drain(served[share].port)
                if seed:
                    costs[share].append((served[share].cpu_seconds() - before) / options.requests)
        return [_row(share, costs, _samples(served[share].port)) for share in SHARES]


def _row(share: float, costs: dict[float, list[float]], samples: dict[str, float]) -> dict[str, object]:
    ratios = [with_tap / off for with_tap, off in zip(costs[share], costs[SHARES[0]], strict=True)]
    return {
        "share": share,
        "CPU ms a request": 1000 * statistics.median(costs[share]),
        "ratio to off": statistics.median(ratios),
        "ratios": " ".join(f"{ratio:.2f}" for ratio in ratios),
        "stored": samples.get("stored", 0.0),
        "left out": samples.get("left_out", 0.0),
    }


def _student(share: float, data_dir: Path) -> AbstractContextManager[StudentProcess]:
    environment = {"MPA_STUDENT_TAP_SHARE": str(share), "MPA_STUDENT_TAP_QUESTIONS": "true"}
    return student(DEMO_STUDENT, data_dir, {**environment, "MPA_STUDENT_FEATURE_CACHE": "0"})


def _drain(port: int) -> None:
    """Wait until the counts no longer change, so that every sample is written."""
    deadline, before = time.monotonic() + DRAIN_SECONDS, _samples(port)
    while time.monotonic() < deadline:
        time.sleep(0.3)
        now = _samples(port)
        if now == before:
            return
        before = now
    raise RuntimeError(f"The tap was still writing after {DRAIN_SECONDS:.0f} s.")


def _samples(port: int) -> dict[str, float]:
    """Counts of the tap by result."""
    found = {}
    for line in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text.splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("mpa_student_tap_samples_total{"):
            found[name.split('"')[1]] = float(value)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=12)
    parser.add_argument("--requests", type=int, default=192, help="of each service in a round")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options, Path(folder))
    report("tap_overhead", rows, "ratio to off: 1 is no overhead")


if __name__ == "__main__":
    main()
