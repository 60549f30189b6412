"""Processor time of a training step with each term of the alignment loss, as a ratio to the plain loss in the same run.

    python -m benchmarks.losses.term_costs

The demo pair mines a small pile, so that every column of the set has real values; then the demo student is trained
on it with each loss in turn, several times over, and the cheapest run of each counts. A step's cost is that of a long
training less that of a short one, which has loaded the models and prepared the pictures as well. It is processor time
of one thread, so a busy machine does no harm.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.serving.report import report
from demo.ablation.arms import Pairs
from demo.ablation.mining import draw, mine, write_set
from demo.world.vocabulary import FAMILIES
from services.trainer.run.train import run_training
from services.trainer.run_config import RunConfig
from shared.contracts import FolderSource, JobSpec, TrainSpec
from shared.sets import set_digest
from shared.store import Store

DEMO = Path(__file__).resolve().parents[2] / "demo"
LOSSES: dict[str, dict[str, Any]] = {
    "plain": {},
    "weights": {"weigh_by": ["vote_share", "confidence"]},
    "consistency by top k": {"consistency": 0.5, "consistency_by": "top_k"},
    "consistency by candidates": {"consistency": 0.5, "consistency_by": "candidates"},
    "rationale": {"rationale": 0.5},
    "attention": {"attention": 0.5},
    "all, by top k": {"weigh_by": ["confidence"], "consistency": 0.5, "rationale": 0.5, "attention": 0.5},
}
PILE_SEED = 77_000


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = Store((folder / "store").as_uri())
        pile = draw(folder / "pile", options.images, PILE_SEED)
        mined = mine(pile, DEMO / "models" / "teacher", DEMO / "models" / "student", 2, seed=0)
        pairs = write_set(store, "job", mined, Pairs.PARITY)
        _seconds_a_step(folder, store, LOSSES["plain"], options)  # the first run pays for what all runs use
        costs: dict[str, list[float]] = {name: [] for name in LOSSES}
        for _ in range(options.turns):
            for name, loss in LOSSES.items():
                costs[name].append(_seconds_a_step(folder, store, loss, options))
    plain = min(costs["plain"])
    rows = [
        {"loss": name, "CPU s/step": min(found), "ratio": min(found) / plain, "dearest": max(found) / plain}
        for name, found in costs.items()
    ]
    report("loss_terms", rows, f"{pairs} disparity pairs, batch {options.batch}, half of it replay")


def _seconds_a_step(folder: Path, store: Store, loss: dict[str, Any], options: argparse.Namespace) -> float:
    spent = []
    for steps in (options.warmup, options.warmup + options.steps):
        config = _config(folder, store, steps, loss, options)
        before = time.process_time()
        run_training(config)
        spent.append(time.process_time() - before)
        shutil.rmtree(config.folder)
    return (spent[1] - spent[0]) / options.steps


def _config(folder: Path, store: Store, steps: int, loss: dict[str, Any], options: argparse.Namespace) -> RunConfig:
    train = TrainSpec.model_validate(
        {
            "batch_size": options.batch,
            "max_steps": steps,
            "learning_rate": 1e-4,
            "precision": "bf16",
            "freeze_vision": True,
            "save_every_steps": 1000,
            "loss": {"preset": "replay", **loss},
        }
    )
    return RunConfig(
        job_id="job",
        spec=JobSpec(images=[FolderSource(path=str(folder / "pile"))], tasks=list(FAMILIES), train=train, seed=0),
        folder=folder / "training",
        base_version="base",
        base_folder=DEMO / "models" / "student",
        store_url=(folder / "store").as_uri(),
        cache_dir=folder / "cache",
        set_digest=set_digest(store, "job"),
        tasks_file=DEMO / "tasks.yaml",
        device="cpu",
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.losses.term_costs", description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--warmup", type=int, default=6, help="steps of the short training")
    parser.add_argument("--steps", type=int, default=16, help="steps more of the long one")
    parser.add_argument("--turns", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
