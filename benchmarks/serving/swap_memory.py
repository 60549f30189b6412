"""Memory of the student's process while it changes checkpoints, in multiples of the weights.

    python -m benchmarks.serving.swap_memory

``peak`` is 1 (the serving weights) + the growth during the swap; memory is anonymous memory, and beside it with mapped
files, whose pages the kernel can reclaim at any time. Targets: double_buffer at most 2.1, in_place at most 1.15.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import threading
from pathlib import Path

from benchmarks.serving.load import run_load
from benchmarks.serving.models import model_folder
from benchmarks.serving.report import report
from benchmarks.serving.student_process import activate, publish, student
from benchmarks.serving.workload import bodies, questions

DTYPE_BYTES = 4
SAMPLE_SECONDS = 0.002


class Watch:
    """Highest memory of a process in bytes while it is watched: (anonymous, with mapped files)."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.anonymous, self.whole = self.now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def now(self) -> tuple[int, int]:
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        sizes = {line.split(":")[0]: line.split() for line in lines}
        return int(sizes["RssAnon"][1]) * 1024, int(sizes["VmRSS"][1]) * 1024

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            anonymous, whole = self.now()
            self.anonymous, self.whole = max(self.anonymous, anonymous), max(self.whole, whole)


def measure(mode: str, base: Path, other: Path, folder: Path, swaps: int) -> dict[str, object]:
    weights = _parameters(base) * DTYPE_BYTES
    with student(base, folder, {"MPA_STUDENT_SWAP": mode}) as served:
        publish(served, other, "other")
        body = bodies(questions(8), max_tokens=4)
        asyncio.run(run_load(served.port, body, clients=4))
        peaks: list[tuple[float, float]] = []
        seconds = 0.0
        for n in range(swaps):
            if mode == "double_buffer" and n > 0:  # an earlier swap's previous version is still in memory
                break
            before, before_whole = Watch(served.pid).now()
            with Watch(served.pid) as watch:
                seconds = activate(served, "base" if n % 2 else "other")
            peaks.append((1 + (watch.anonymous - before) / weights, 1 + (watch.whole - before_whole) / weights))
            asyncio.run(run_load(served.port, body, clients=4))
    return {
        "swap": mode,
        "weights MB": round(weights / 1e6),
        "peak": max(anonymous for anonymous, _ in peaks),
        "peak with mapped files": max(whole for _, whole in peaks),
        "seconds": seconds,
    }


def _parameters(folder: Path) -> int:
    """Parameters as loaded: tied weights once, as they are stored."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        spans = [info["data_offsets"] for name, info in header.items() if name != "__metadata__"]
        total += sum(end - begin for begin, end in spans) // 2  # the benchmark's models are stored in bfloat16
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, other = (model_folder("40m", folder / f"model-{seed}", seed) for seed in (0, 1))
        rows = [measure(m, base, other, folder / m, options.swaps) for m in ("double_buffer", "in_place")]
    report("swap_memory", rows, "targets: peak at most 2.1 with double_buffer, 1.15 with in_place")


if __name__ == "__main__":
    main()
