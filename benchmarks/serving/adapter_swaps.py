"""Swaps of LoRA checkpoints on vLLM under load: as adapters beside the weights, and as whole weights in their place.

The same checkpoints, once with MPA_STUDENT_VLLM_LORA and once without. Prints the seconds of a swap, failed and mixed
answers, requests/s and latencies of both, and how many times faster an adapter is swapped. Random weights are stored in
float32: in 16 bits the merged weights are rounded, so adapters answer differently and are swapped as whole weights.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

import torch

from benchmarks.serving.models import SIZES, model_folder
from benchmarks.serving.report import report
from benchmarks.serving.student_process import student
from benchmarks.serving.swap_versions import smoke_of
from benchmarks.serving.swaps import measure
from services.trainer.leveler.models import add_lora, save_candidate
from shared.checkpoints import BASE_VERSION, CheckpointRegistry, build_card
from shared.checkpoints.adapters import describe_adapter
from shared.contracts import LoraSpec
from shared.store import Store
from shared.vlm.loading import load_model

TARGETS = "no target: failed and mixed must be 0; 'times faster' is whole weights' seconds of a swap over this row's"
NOISE = 0.4


def main() -> None:
    options = _options()
    rows = []
    for name, lora in (("whole weights", "false"), ("adapters", "true")):
        with tempfile.TemporaryDirectory(prefix="mpa-adapters-") as folder:
            model = model_folder(options.size, Path(folder) / "base", dtype=torch.float32)
            versions = publish_adapters(Path(folder), model)
            settings = {"MPA_STUDENT_ENGINE": "vllm", "MPA_STUDENT_VLLM_LORA": lora, "MPA_REDIS_URL": ""}
            settings |= {"MPA_STUDENT_MAX_MODEL_LEN": "512", "MPA_LOG_LEVEL": "INFO"}
            log = Path(folder) / "student.log"
            with student(model, Path(folder), settings, log) as process:
                rows.append({"swapped as": name, **asyncio.run(measure(process.port, versions, options))})
            if lora == "true":
                _check_adapters(log)
    for row in rows:
        row["times faster"] = rows[0]["swap s"] / row["swap s"]
    report("adapter_swaps", rows, TARGETS)


def publish_adapters(data_dir: Path, model: Path, copies: int = 3) -> list[str]:
    """Publish checkpoints as the trainer does with method lora, their adapters noise; returns their versions."""
    registry = CheckpointRegistry(Store((data_dir.absolute() / "store").as_uri()), "student")
    registry.register_base(model)
    versions = [f"lora-{number}" for number in range(copies)]
    for seed, version in enumerate(versions):
        adapted = add_lora(load_model(model).model, LoraSpec(rank=8, alpha=16), seed)
        torch.manual_seed(seed)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=NOISE)
        folder = data_dir / version
        save_candidate(adapted, model, folder)
        adapter = describe_adapter(folder, BASE_VERSION)
        card = build_card(
            folder, version=version, student="student", base=BASE_VERSION, smoke=smoke_of(folder), adapter=adapter
        )
        registry.publish(folder, card)
    return versions


def _check_adapters(log: Path) -> None:
    """Raises RuntimeError if the student fell back to whole weights, with which adapters are compared."""
    if fallen := [line for line in log.read_text().splitlines() if "is swapped as whole weights" in line]:
        raise RuntimeError(f"{len(fallen)} swaps were not of adapters: {fallen[0]}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="1m")
    parser.add_argument("--swaps", type=int, default=30)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--questions", type=int, default=16, help="different requests, asked in turn")
    parser.add_argument("--steady", type=float, default=9.0, help="seconds without swaps, before and after")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between the end of a swap and the next")
    return parser.parse_args()


if __name__ == "__main__":
    main()
