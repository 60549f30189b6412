"""Student over HTTP at concurrency 32 against in-process batched ``generate`` on the same model.

    python -m benchmarks.serving.http_overhead --size 1m --size 40m

``--process`` says where the service runs its model: on a thread of its own process, or in a process apart. All
answer the same requests, from image file to text, in turns, so that a busy machine hits both. A server has its
own threads for requests and preparation, so it wants a second core; the ratio of each one's best round is the one that
other work on the machine disturbs least. Target: 0.9 of the in-process requests/s.

CPU time a request is hardly disturbed at all. Where the model has a process of its own, that process' time is what
limits the rate on a machine with a core for it and one for the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from benchmarks.serving.in_process import InProcess, in_process
from benchmarks.serving.load import run_load
from benchmarks.serving.models import model_folder
from benchmarks.serving.report import report
from benchmarks.serving.student_process import StudentProcess, cpu_seconds, student
from benchmarks.serving.workload import bodies, questions

DEFAULT_REQUESTS = {"1m": 192, "40m": 64}
PLACES = ("thread", "process")
ALONE = "in-process"


def measure(size: str, options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    count = options.requests or DEFAULT_REQUESTS[size]
    model = model_folder(size, folder / size)
    with ExitStack() as stack:
        served = {
            place: stack.enter_context(_student(place, model, folder / f"{size}-{place}"))
            for place in options.process or PLACES
        }
        local = stack.enter_context(in_process(model, batch=options.clients, max_tokens=options.max_tokens))
        _round(served, local, count // 2, 0, options)  # all are warm from here on
        before, before_alone = {place: _cpu(one) for place, one in served.items()}, cpu_seconds(local.pid)
        rounds = [_round(served, local, count, seed, options) for seed in range(1, options.rounds + 1)]
        used = {place: _used(before[place], _cpu(one), count * options.rounds) for place, one in served.items()}
        alone = (cpu_seconds(local.pid) - before_alone) / (count * options.rounds) * 1000
    return [_row(size, place, rounds, used[place], alone) for place in served]


def _cpu(served: StudentProcess) -> tuple[float, float]:
    return served.cpu_seconds(), served.child_cpu_seconds()


def _used(before: tuple[float, float], after: tuple[float, float], requests: int) -> tuple[float, float]:
    """Milliseconds a request of (service, process of the model)."""
    return (after[0] - before[0]) / requests * 1000, (after[1] - before[1]) / requests * 1000


def _row(
    size: str, place: str, rounds: Sequence[Mapping[str, float]], used: tuple[float, float], alone: float
) -> dict[str, object]:
    ratios = [found[place] / found[ALONE] for found in rounds]
    return {
        "model": size,
        "model runs in": place,
        "http req/s": statistics.median(found[place] for found in rounds),
        "in-process req/s": statistics.median(found[ALONE] for found in rounds),
        "ratio": statistics.median(ratios),
        "ratio of the best": max(found[place] for found in rounds) / max(found[ALONE] for found in rounds),
        "service CPU ms": used[0],
        "model process CPU ms": used[1],
        "in-process CPU ms": alone,
        "ratios": " ".join(f"{ratio:.2f}" for ratio in ratios),
    }


def _student(place: str, model: Path, data_dir: Path) -> AbstractContextManager[StudentProcess]:
    return student(model, data_dir, {"MPA_STUDENT_FEATURE_CACHE": "0", "MPA_STUDENT_PROCESS": place})


def _round(
    served: Mapping[str, StudentProcess], local: InProcess, count: int, seed: int, options: argparse.Namespace
) -> dict[str, float]:
    """Requests per second of each on images that none has seen. The order changes from round to round."""
    asked = questions(count, seed=seed)
    sent = bodies(asked, max_tokens=options.max_tokens)
    names = [*served, ALONE]
    found = {}
    for name in names[seed % len(names) :] + names[: seed % len(names)]:
        if name == ALONE:
            found[name] = count / local.seconds(asked)
            continue
        load = asyncio.run(run_load(served[name].port, sent, clients=options.clients))
        assert not load.failures, load.failures[0]
        found[name] = load.per_second
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", action="append", choices=sorted(DEFAULT_REQUESTS))
    parser.add_argument("--process", action="append", choices=PLACES, help="default: both")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=12)
    parser.add_argument("--requests", type=int, help="a round; default 192 at 1m, 64 at 40m")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = options.size or sorted(DEFAULT_REQUESTS)
        rows = [row for size in sizes for row in measure(size, options, Path(folder))]
    report("http_overhead", rows, "target: ratio at least 0.9")


if __name__ == "__main__":
    main()
