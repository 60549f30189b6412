"""``python -m benchmarks.training.contender``: one way to train, in a process of its own; prints one line of JSON.

All train the same model in float32 on the same pairs, as often, in batches of the same size, with AdamW, a clipped
gradient and cross-entropy of the answer's tokens. Time runs from the loaded model to the end of the last step, with all
that a trainer prepares before the first one.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.training.workload import JOB, Pair, make_pairs, publish
from services.trainer.run_config import RunConfig
from shared.contracts import JobSpec, TrainSpec
from shared.sets import set_digest
from shared.store import Store

OURS = ("ours", "ours_bucketed", "ours_frozen")
RIVALS = ("hf", "hf_eager", "hf_frozen", "trl", "trl_eager", "trl_frozen")
LEARNING_RATE = 1e-4
TASKS = Path("demo/tasks.yaml")


@dataclass(frozen=True)
class Plan:
    """What every contender does."""

    model: Path
    work: Path
    pairs: int
    batch_size: int
    epochs: int

    @property
    def steps(self) -> int:
        return -(-self.pairs * self.epochs // self.batch_size)


@dataclass(frozen=True)
class Outcome:
    """``seconds`` on the clock and ``cpu_seconds`` of the process for ``samples``; memory in bytes: the process' peak,
    and what it had with the loaded model.
    """

    name: str
    samples: int
    seconds: float
    cpu_seconds: float
    peak: int
    loaded: int
    loss: float


class Clock:
    """Time from ``start``, when the model is loaded, to the last ``step``."""

    def start(self) -> None:
        self._begun = (time.monotonic(), time.process_time())
        self._loaded = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    def step(self) -> None:
        self._ended = (time.monotonic(), time.process_time())

    def outcome(self, name: str, plan: Plan, loss: float) -> Outcome:
        seconds, cpu = (end - begin for begin, end in zip(self._begun, self._ended, strict=True))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return Outcome(name, plan.steps * plan.batch_size, seconds, cpu, peak, self._loaded, loss)


def run_ours(name: str, plan: Plan) -> Outcome:
    """Through the same function as a job's training; only the clock starts after the loading."""
    from services.trainer.leveler.callbacks.progress import ProgressFile
    from services.trainer.run import train as run
    from services.trainer.run_config import read_progress

    store = Store((plan.work / "store").as_uri())
    publish(store, make_pairs(plan.work / "images", plan.pairs))
    train = TrainSpec(
        batch_size=plan.batch_size,
        max_steps=plan.steps,
        learning_rate=LEARNING_RATE,
        replay_fraction=0.0,
        save_every_steps=10**6,
        length_bucketing=name != "ours",
        freeze_vision=name == "ours_frozen",
    )
    config = RunConfig(
        job_id=JOB,
        spec=JobSpec(images=[{"kind": "folder", "path": "unused"}], tasks=["chart"], train=train, seed=1),  # type: ignore[list-item]
        folder=plan.work / name,
        base_version="base",
        base_folder=plan.model,
        store_url=store.url,
        cache_dir=plan.work / "cache",
        set_digest=set_digest(store, JOB),
        tasks_file=TASKS,
        device="cpu",
        threads=torch.get_num_threads(),
    )
    clock = Clock()
    begin, on_step_end = run.train, ProgressFile.on_step_end

    def train_from_here(*args: Any, **kwargs: Any) -> Any:
        clock.start()
        return begin(*args, **kwargs)

    def end_step(progress: ProgressFile, *args: Any, **kwargs: Any) -> None:
        on_step_end(progress, *args, **kwargs)
        clock.step()

    run.train, ProgressFile.on_step_end = train_from_here, end_step  # type: ignore[method-assign]
    run.run_training(config)
    lines = read_progress(config.progress_file)[-10:]
    return clock.outcome(name, plan, sum(line.loss for line in lines) / len(lines))


def run_rival(name: str, plan: Plan) -> Outcome:
    """Hugging Face's Trainer, or TRL's."""
    from benchmarks.training.rivals import Course, train_with_hf, train_with_trl

    pairs: list[Pair] = make_pairs(plan.work / "images", plan.pairs)
    clock = Clock()
    course = Course(
        plan.model,
        plan.work / name,
        plan.batch_size,
        plan.steps,
        LEARNING_RATE,
        attention="eager" if name.endswith("eager") else None,
        freeze_vision=name.endswith("frozen"),
    )
    loss = (train_with_trl if name.startswith("trl") else train_with_hf)(course, pairs, clock)
    return clock.outcome(name, plan, loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[*OURS, *RIVALS])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pairs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    given = parser.parse_args()
    torch.manual_seed(0)
    plan = Plan(given.model, given.work, given.pairs, given.batch_size, given.epochs)
    outcome = (run_ours if given.name in OURS else run_rival)(given.name, plan)
    sys.stdout.write(json.dumps(asdict(outcome)) + "\n")


if __name__ == "__main__":
    main()
