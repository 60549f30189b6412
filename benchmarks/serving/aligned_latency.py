"""Speed of the student before and after alignment: one service, the base and a trained checkpoint in turns.

    python -m benchmarks.serving.aligned_latency [--aligned .mpa/demo/store/checkpoints/student/<version>]

Without ``--aligned`` a checkpoint is trained here for a few steps on labelled questions, as a job's full training does.
Both answer one token, because the length of an answer depends on the checkpoint. Target: at least 0.99 of the
base's requests/s; on a busy machine look at the CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.brief_training import train_briefly
from benchmarks.serving.load import Load, run_load
from benchmarks.serving.models import DEMO_STUDENT
from benchmarks.serving.report import report
from benchmarks.serving.student_process import StudentProcess, activate, publish, student
from benchmarks.serving.workload import bodies, questions


@dataclass(frozen=True)
class Measured:
    """A load, and the CPU time that the service used for it."""

    load: Load
    cpu_seconds: float


def measure(served: StudentProcess, version: str, requests: list[bytes], clients: int) -> Measured:
    activate(served, version)
    asyncio.run(run_load(served.port, requests[: len(requests) // 4], clients=clients))
    used = served.cpu_seconds()
    load = asyncio.run(run_load(served.port, requests, clients=clients))
    assert not load.failures, load.failures[0]
    return Measured(load, served.cpu_seconds() - used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aligned", type=Path)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=192, help="a round")
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    requests = bodies(questions(options.requests), max_tokens=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        aligned = options.aligned or train_briefly(DEMO_STUDENT, folder / "aligned")
        with student(DEMO_STUDENT, folder / "data", {"MPA_STUDENT_FEATURE_CACHE": "0"}) as served:
            for version in ("aligned", "again"):
                publish(served, aligned if version == "aligned" else DEMO_STUDENT, version)
            asyncio.run(run_load(served.port, requests, clients=options.clients))
            rounds = []
            for n in range(options.rounds):  # the order alternates, because a machine may become slower over time
                pair = ("aligned", "again")[:: 1 if n % 2 else -1]
                found = {version: measure(served, version, requests, options.clients) for version in pair}
                rounds.append((found["again"], found["aligned"]))
    ratios = [after.load.per_second / before.load.per_second for before, after in rounds]
    row = {
        "req/s before": statistics.median(before.load.per_second for before, _ in rounds),
        "req/s after": statistics.median(after.load.per_second for _, after in rounds),
        "p50 ms before": 1000 * statistics.median(before.load.percentile(0.5) for before, _ in rounds),
        "p50 ms after": 1000 * statistics.median(after.load.percentile(0.5) for _, after in rounds),
        "ratio": statistics.median(ratios),
        "ratio of CPU time": sum(before.cpu_seconds for before, _ in rounds) / sum(a.cpu_seconds for _, a in rounds),
        "ratios": " ".join(f"{ratio:.2f}" for ratio in ratios),
    }
    report("aligned_latency", [row], "target: ratio at least 0.99")


if __name__ == "__main__":
    main()
