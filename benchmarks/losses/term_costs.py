"""Training speed with each term of the alignment loss, as a ratio to the plain loss in the same run.

    python -m benchmarks.losses.term_costs

The demo pair mines a small pile, so that every column of the set is there and real; then the demo student is trained
on it a few steps with each loss in turn, several times over, and the fastest run of each counts.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.serving.report import report
from demo.ablation.arms import Pairs
from demo.ablation.mining import draw, mine, write_set
from demo.world.vocabulary import FAMILIES
from services.trainer.config import RunConfig
from services.trainer.run import run_training
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
        speeds: dict[str, list[float]] = {name: [] for name in LOSSES}
        for turn in range(options.turns):
            for number, (name, loss) in enumerate(LOSSES.items()):
                config = _config(folder, store, f"{turn}-{number}", loss, options)
                speeds[name].append(run_training(config).samples_per_second)
    plain = max(speeds["plain"])
    rows = [
        {"loss": name, "samples/s": max(found), "ratio": max(found) / plain, "slowest": min(found)}
        for name, found in speeds.items()
    ]
    report("loss_terms", rows, f"{pairs} disparity pairs, batch {options.batch}, half of it replay")


def _config(folder: Path, store: Store, name: str, loss: dict[str, Any], options: argparse.Namespace) -> RunConfig:
    train = TrainSpec.model_validate(
        {
            "batch_size": options.batch,
            "max_steps": options.steps,
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
        folder=folder / name,
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
    parser.add_argument("--steps", type=int, default=26, help="the last 20 are timed")
    parser.add_argument("--turns", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
