"""Swaps under load: 100 swaps, each of a checkpoint that is loaded anew, while 32 clients ask without a pause.

Prints failed and mixed answers (an answer is mixed if it is not what the checkpoint it names says; ``told apart``: the
questions that all versions answer differently) and the latencies during the swaps against those without swaps, measured
before and after in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.serving.report import report
from benchmarks.serving.student_process import student
from benchmarks.serving.swap_load import Load, Truth, ask_each, closed_loop
from benchmarks.serving.swap_versions import publish_versions
from benchmarks.serving.workload import bodies, questions
from shared.client import StudentClient

TARGETS = "targets: failed 0, mixed 0, p99 during swaps at most 1.5 times the steady p99"
MAX_TOKENS = 8


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="mpa-swaps-") as folder:
        versions = publish_versions(Path(folder), options.model)
        settings = {"MPA_REDIS_URL": "", **dict(pair.split("=", 1) for pair in options.set)}
        with student(options.model, Path(folder), settings) as process:
            row = asyncio.run(measure(process.port, versions, options))
    report("swaps", [row], TARGETS)


async def measure(port: int, versions: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """``options``: questions, clients, steady, swaps and pause, as below."""
    asked = bodies(questions(options.questions), max_tokens=MAX_TOKENS)
    async with StudentClient(f"http://127.0.0.1:{port}", model="student", timeout=120) as control:
        truth: Truth = {}
        for version in [*versions[1:], versions[0]]:
            await control.activate(version, "benchmark")
            truth[version] = await ask_each(port, asked)
        await _loaded(port, asked, options, options.steady / 4)  # warm-up, not counted
        before = await _steady(port, asked, options, versions, control)
        during, swaps = await _swapping(port, asked, options, versions, control)
        after = await _steady(port, asked, options, versions, control)
    steady = Load.merged(before, after)
    apart = sum(len(set(answers)) == len(versions) for answers in zip(*truth.values(), strict=True))
    return {
        "told apart": f"{apart}/{len(asked)}",
        "swaps": len(swaps),
        "answers": len(during.answers),
        "failed": len(during.failures) + len(steady.failures),
        "mixed": during.mixed(truth) + steady.mixed(truth),
        "swap s": sum(swaps) / len(swaps),
        "steady req/s": steady.per_second,
        "req/s": during.per_second,
        "steady p50 s": steady.percentile(0.5),
        "p50 s": during.percentile(0.5),
        "steady p99 s": steady.percentile(0.99),
        "p99 s": during.percentile(0.99),
        "p99 ratio": during.percentile(0.99) / steady.percentile(0.99),
    }


async def _steady(
    port: int, asked: list[bytes], options: argparse.Namespace, versions: list[str], control: StudentClient
) -> Load:
    """The load without swaps, for as long on every version: their answers are not equally long."""
    loads = []
    for version in versions:
        await control.activate(version, "benchmark")
        loads.append(await _loaded(port, asked, options, options.steady / len(versions)))
    return Load.merged(*loads)


async def _loaded(port: int, asked: list[bytes], options: argparse.Namespace, seconds: float) -> Load:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, stop.set)
    return await closed_loop(port, asked, clients=options.clients, stop=stop)


async def _swapping(
    port: int, asked: list[bytes], options: argparse.Namespace, versions: list[str], control: StudentClient
) -> tuple[Load, list[float]]:
    """The load during all swaps, and the seconds of each. With three versions in turn, none is still in memory."""
    stop = asyncio.Event()
    loading = asyncio.create_task(closed_loop(port, asked, clients=options.clients, stop=stop))
    seconds = []
    for version in itertools.islice(itertools.cycle([*versions[1:], versions[0]]), options.swaps):
        seconds.append((await control.activate(version, "benchmark")).seconds)
        await asyncio.sleep(options.pause)
    stop.set()
    return await loading, seconds


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("demo/models/student"), help="the student's folder")
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--questions", type=int, default=48, help="different requests, asked in turn")
    parser.add_argument("--steady", type=float, default=20.0, help="seconds without swaps, before and after")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between the end of a swap and the next")
    parser.add_argument("--set", action="append", default=[], metavar="MPA_X=Y", help="another setting of the student")
    return parser.parse_args()


if __name__ == "__main__":
    main()
