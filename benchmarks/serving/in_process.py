"""The yardstick: the same model in a process of its own, by Hugging Face's processor and batched ``generate``.

    python -m benchmarks.serving.in_process --model demo/models/student

The benchmarks run it: it reads one JSON list of ``[png in base64, question]`` a line from standard input, and writes
the seconds that all answers took, from image files to texts.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from benchmarks.serving.workload import Asked


class InProcess:
    """The other end of the pipe."""

    def __init__(self, pid: int, requests: IO[bytes], replies: IO[bytes]) -> None:
        self.pid, self._requests, self._replies = pid, requests, replies

    def seconds(self, asked: Sequence[Asked]) -> float:
        """Time that all answers take, in batches."""
        line = json.dumps([[base64.b64encode(one.png).decode(), one.question] for one in asked])
        self._requests.write(line.encode() + b"\n")
        self._requests.flush()
        return float(self._replies.readline())


@contextmanager
def in_process(model: Path, *, batch: int, max_tokens: int) -> Iterator[InProcess]:
    command = [sys.executable, "-m", "benchmarks.serving.in_process", "--model", str(model)]
    command += ["--batch", str(batch), "--max-tokens", str(max_tokens)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ))
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield InProcess(process.pid, process.stdin, process.stdout)
    finally:
        process.stdin.close()
        process.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=12)
    options = parser.parse_args()

    import numpy as np  # after the parsing, so that --help needs no model library
    import torch
    from PIL import Image

    from demo.answering import Answerer

    torch.set_num_threads(int(os.environ.get("MPA_TORCH_THREADS", "1")))
    answerer = Answerer(options.model)
    for line in sys.stdin:
        asked = [(base64.b64decode(png), question) for png, question in json.loads(line)]
        started = time.perf_counter()
        for start in range(0, len(asked), options.batch):
            part = asked[start : start + options.batch]
            images = [np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png, _ in part]
            answerer.answer(images, [q for _, q in part], max_new_tokens=options.max_tokens, batch_size=options.batch)
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
