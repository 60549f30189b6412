"""``python -m demo.training``: trains the demo pair (about 1.5 core-hours) and writes ``demo/models``."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

from demo.training.recipe import PROCESSES, RECIPES, Recipe

ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}
"""glibc keeps freed memory: fresh pages cost a third of the time at these tensor sizes."""


def train(recipe: Recipe, work: Path, target: Path, start: Path | None = None) -> None:
    """Run the processes of one training, all stages or from the finished weights in ``start`` the last one.

    RuntimeError when one of the processes fails (the others are stopped).
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        rendezvous = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    environment = os.environ | ALLOCATOR | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "demo.training.train", "--recipe", recipe.name, "--rendezvous", rendezvous]
    command += ["--work", str(work), "--target", str(target)]
    command += ["--start", str(start)] if start else []
    processes = [subprocess.Popen([*command, "--rank", str(rank)], env=environment) for rank in range(PROCESSES)]
    try:
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes):
                break
            _wait_any(processes)
        if any(process.poll() for process in processes):
            raise RuntimeError(f"training of the {recipe.name} failed; its state is kept in {work}: run again to go on")
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
            process.wait()


def _wait_any(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=[recipe.name for recipe in RECIPES], help="teacher, student")
    parser.add_argument("--work", type=Path, default=Path(".mpa/demo-training"), help="folder of the training state")
    parser.add_argument("--out", type=Path, default=Path("demo/models"), help="folder of the finished models")
    parser.add_argument("--start", type=Path, help="folder of finished models of which to train the last stage anew")
    options = parser.parse_args()
    for recipe in RECIPES:
        if recipe.name in options.models:
            start = options.start / recipe.name if options.start else None
            train(recipe, options.work / recipe.name, options.out / recipe.name, start)


if __name__ == "__main__":
    main()
