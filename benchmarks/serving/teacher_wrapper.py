"""The teacher service against the bare vLLM below it.

    python -m benchmarks.serving.teacher_wrapper

The same vLLM process answers through the service and directly, in turns, always about images that it has not seen.
Target: through the service at least 0.95 of the requests/s.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from PIL import Image

from benchmarks.serving.load import run_load
from benchmarks.serving.models import LARGE
from benchmarks.serving.report import report
from demo.world.generator import pile
from shared.images import to_data_url
from shared.processes.ports import free_port

READY_SECONDS = 600.0
DEMO_TEACHER = Path("demo/models/teacher")


@contextmanager
def teacher(model: Path, data_dir: Path) -> Iterator[tuple[int, int]]:
    """Ports of a running teacher service and of the vLLM below it."""
    port = free_port()
    settings = {
        "MPA_DATA_DIR": str(data_dir),
        "MPA_TEACHER_MODEL": str(model.absolute()),
        "MPA_TEACHER_PORT": str(port),
        "MPA_TEACHER_READY_TIMEOUT": str(READY_SECONDS),
        "MPA_LOG_LEVEL": "WARNING",
    }
    process = subprocess.Popen([sys.executable, "-m", "services.teacher"], env={**os.environ, **settings})
    try:
        yield port, _vllm_port(process, port)
    finally:
        process.terminate()
        process.wait(60)


def _vllm_port(process: subprocess.Popen[bytes], port: int) -> int:
    """Wait until the service is ready; RuntimeError if it ends or takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            health = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5)
        except httpx.HTTPError:
            time.sleep(0.5)
            continue
        if health.status_code == 200:
            vllm = urlsplit(health.json()["details"]["model_server"]).port
            assert vllm is not None
            return vllm
        time.sleep(0.5)
    raise RuntimeError("The teacher service did not get ready.")


def bodies(count: int, seed: int, max_tokens: int) -> list[bytes]:
    """Greedy questions, each about an image of its own."""
    return [json.dumps(_body(_png(p.pixels), max_tokens)).encode() for p in pile(count, seed, "train")]


def _body(png: bytes, max_tokens: int) -> dict[str, object]:
    image = {"type": "image_url", "image_url": {"url": to_data_url(png)}}
    content = [image, {"type": "text", "text": "what is this?"}]
    messages = [{"role": "user", "content": content}]
    return {"model": "teacher", "messages": messages, "max_tokens": max_tokens, "temperature": 0, "logprobs": True}


def _png(pixels: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def measure(name: str, model: Path, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Medians over the rounds; the order of the two changes from round to round."""
    found: dict[int, list[float]] = {}
    with teacher(model, folder / "data") as (service, bare):
        for seed in range(2 * options.rounds + 2):
            port = (service, bare, bare, service)[seed % 4]
            asked = bodies(options.requests, 1000 + seed, options.max_tokens)
            load = asyncio.run(run_load(port, asked, clients=options.clients))
            assert not load.failures, load.failures[0]
            if seed >= 2:  # both are warm from here on
                found.setdefault(port, []).append(load.per_second)
    ratios = sorted(through / direct for through, direct in zip(found[service], found[bare], strict=True))
    return {
        "model": name,
        "service req/s": statistics.median(found[service]),
        "bare vLLM req/s": statistics.median(found[bare]),
        "ratio": statistics.median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
    }


def model_folder(name: str, folder: Path) -> Path:
    """The demo's teacher, or 40M random weights."""
    if name == "demo":
        return DEMO_TEACHER
    from transformers import AutoProcessor

    from demo.training.architecture import build_model

    processor = AutoProcessor.from_pretrained(DEMO_TEACHER)
    build_model(LARGE, processor, seed=0).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=["demo", "40m"])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=12)
    parser.add_argument("--requests", type=int, default=100, help="a round")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    rows = []
    for name in options.model or ["demo", "40m"]:
        with tempfile.TemporaryDirectory() as scratch:
            model = model_folder(name, Path(scratch) / "model")
            rows.append(measure(name, model, Path(scratch), options))
    report("teacher_wrapper", rows, "target: ratio at least 0.95")


if __name__ == "__main__":
    main()
