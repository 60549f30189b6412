"""One seed's sets, and one arm on them: the trainer's own process, then the trained student's answers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from demo.ablation.arms import Arm, Pairs
from demo.ablation.labels import label_quality
from demo.ablation.mining import Wanted, draw, mine, write_set
from demo.ablation.testing import answered_right, questions
from demo.world.vocabulary import FAMILIES, Split
from services.trainer.launch.child import run_phase
from services.trainer.run_config import RunConfig, TrainResult, load
from shared.contracts import FolderSource, JobSpec, TrainSpec
from shared.sets import set_digest, shard_key
from shared.store import Store

TASKS_FILE = Path(__file__).resolve().parents[1] / "tasks.yaml"
PILE_SEED = 90_000
"""Far from the seeds of the demo's piles and of the evaluation."""


@dataclass(frozen=True)
class Settings:
    """What all arms share: ``images`` and ``questions`` of a pile, and an arm's optimiser ``steps`` in all."""

    out: Path
    teacher: Path
    student: Path
    images: int = 1500
    questions: int = 2
    steps: int = 400
    split: Split = Split.TEST
    test_images: int = 600

    def folder(self, seed: int) -> Path:
        return self.out / f"seed-{seed}"

    def store(self, seed: int) -> Store:
        return Store(self.store_url(seed))

    def store_url(self, seed: int) -> str:
        return (self.folder(seed) / "store").resolve().as_uri()

    def of_mining(self) -> dict[str, Any]:
        """What the first round's sets depend on besides the seed."""
        models = {"teacher": weights_digest(self.teacher), "student": weights_digest(self.student)}
        return models | {"images": self.images, "questions": self.questions}

    def of_arms(self) -> dict[str, Any]:
        """What an arm's result depends on besides the arm and the seed."""
        return self.of_mining() | {"steps": self.steps, "split": str(self.split), "test_images": self.test_images}


def weights_digest(folder: Path) -> str:
    """sha256 of a model's weights: results of other models are not reused, whatever folder they are in."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def one_thread() -> None:
    """For worker processes: two with several threads each are far slower than two with one."""
    torch.set_num_threads(1)


def prepare(settings: Settings, seed: int) -> dict[str, Any]:
    """Mine the seed's pile and write the set of every kind of arm; or read what an earlier run found."""
    done = settings.folder(seed) / "mined.json"
    if (found := _read(done, settings.of_mining())) is not None:
        return found
    shutil.rmtree(settings.folder(seed), ignore_errors=True)
    started = time.monotonic()
    pile = draw(settings.folder(seed) / "pile", settings.images, PILE_SEED + seed)
    mined = mine(pile, settings.teacher, settings.student, settings.questions, seed)
    store = settings.store(seed)
    kept = {str(kind): write_set(store, kind, mined, kind) for kind in Pairs if kind is not Pairs.NONE}
    result = {
        "key": settings.of_mining(),
        "pairs": len(mined),
        "disparity": kept,
        "labels": label_quality(mined),
        "seconds": round(time.monotonic() - started, 1),
    }
    done.write_text(json.dumps(result))
    return result


def run_arm(settings: Settings, arm: Arm, seed: int) -> dict[str, Any]:
    """Train and test one arm; or read what an earlier run found."""
    folder = settings.folder(seed) / "arms" / f"{settings.split}-{arm.name.replace(' ', '-')}"
    key = {"arm": asdict(arm), "seed": seed} | settings.of_arms()
    if (found := _read(folder / "result.json", key)) is not None:
        return found
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.monotonic()
    student, rounds, job_id = settings.student, [], str(arm.pairs)
    if arm.pairs is not Pairs.NONE:
        for number in range(1, arm.rounds + 1):
            if number > 1:
                job_id = _mine_again(settings, arm, seed, number, student, job_id)
            config = _config(settings, arm, seed, job_id, student, folder / f"round-{number}")
            rounds.append(_train(replace(config, round=number)))
            student = config.candidate
    asked = questions(settings.split, settings.test_images)
    result = {
        "key": key,
        "right": [int(one) for one in answered_right(student, asked)],
        "rounds": rounds,
        "seconds": round(time.monotonic() - started, 1),
    }
    (folder / "result.json").write_text(json.dumps(result))
    for config_folder in folder.glob("round-*"):
        shutil.rmtree(config_folder)  # a hundred students would take half a gigabyte
    return result


def _mine_again(settings: Settings, arm: Arm, seed: int, number: int, student: Path, before: str) -> str:
    """The same images, new questions, and the student of the round before; a job with the rounds of ``before`` and this
    one.
    """
    pile = draw(settings.folder(seed) / "pile", settings.images, PILE_SEED + seed)
    mined = mine(
        pile, settings.teacher, student, settings.questions, seed, number, Wanted(votes_on_all=False, attention=False)
    )
    job_id = f"{arm.name.replace(' ', '-')}-{settings.split}-{number}"
    store = settings.store(seed)
    shutil.rmtree(settings.folder(seed) / "store" / "jobs" / job_id, ignore_errors=True)
    for shard in range(number - 1):
        store.create(shard_key(job_id, shard), store.read(shard_key(before, shard)))
    write_set(store, job_id, mined, arm.pairs, shard=number - 1)
    return job_id


def _config(settings: Settings, arm: Arm, seed: int, job_id: str, student: Path, folder: Path) -> RunConfig:
    train: TrainSpec = arm.spec(settings.steps)
    pile = str((settings.folder(seed) / "pile").resolve())
    return RunConfig(
        job_id=job_id,
        spec=JobSpec(images=[FolderSource(path=pile)], tasks=list(FAMILIES), train=train, seed=seed),
        folder=folder.resolve(),
        base_version="base",
        base_folder=student.resolve(),
        store_url=settings.store_url(seed),
        cache_dir=folder.resolve() / "cache",
        set_digest=set_digest(settings.store(seed), job_id),
        tasks_file=TASKS_FILE,
        device="cpu",
    )


def _train(config: RunConfig) -> dict[str, Any]:
    async def watch() -> None:
        """Nobody watches the progress here."""

    asyncio.run(run_phase(config, "train", watch, {}))
    result = load(TrainResult, config.folder / "result.json")
    if result is None:
        raise RuntimeError(f"{config.folder} has no result although the training ended well")
    return asdict(result)


def _read(path: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    """The result in ``path`` if it was made with the same settings."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found if found["key"] == json.loads(json.dumps(key)) else None
