"""The memory estimate against real trainings: one process each, on a CPU.

    python -m benchmarks.training.memory

``measured`` is the highest anonymous memory of the training process from before the model is loaded until the
checkpoint begins to be written, less what was there before; ``estimated`` is services/trainer/estimate/memory.py's, for
attention with explicit softmax, which the trainer takes on CPUs, and without a GPU's overhead. Target: within a factor
of 1.5.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoProcessor

from benchmarks.serving.report import report
from demo.training.architecture import Size, build_model
from demo.world.generator import pile
from demo.world.pictures import Picture
from demo.world.vocabulary import Split as World
from services.trainer.estimate.architecture import read_architecture
from services.trainer.estimate.memory import Load, estimate
from services.trainer.run.train import run_training
from services.trainer.run_config import RunConfig, load, save
from shared.contracts import FolderSource, JobSpec, Split, TrainSpec, Verdict
from shared.sets import Row, set_digest, write_shard
from shared.store import Store

ROOT = Path(__file__).parents[2]
STUDENT = ROOT / "demo" / "models" / "student"
SIZE = Size(256, 4, 4, 1024, 384, 8, 6, 1536)
IMAGE_SIDE = 96
QUESTION_TOKENS, ANSWER_TOKENS = 24, 3
SAMPLE_SECONDS = 0.002
CASES: dict[str, dict[str, Any]] = {
    "full fp32": {},
    "full fp32, large batch": {"batch_size": 32},
    "full bf16": {"precision": "bf16"},
    "frozen vision": {"freeze_vision": True},
    "LoRA": {"method": "lora"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    if options.child:
        run_child(options.child)
        return
    with tempfile.TemporaryDirectory() as name:
        rows = [measure(case, Path(name)) for case in options.cases]
    report("training_memory", rows, "target: measured within a factor of 1.5 of the estimate")


def measure(case: str, folder: Path) -> dict[str, object]:
    """One training in a process of its own."""
    base = medium_model(folder / "base")
    spec = TrainSpec(**{"batch_size": 8, "max_steps": 3, "replay_fraction": 0.0, **CASES[case]})
    config = run_config(case, spec, base, folder)
    save(config.folder / "run.json", config)
    command = [sys.executable, "-m", "benchmarks.training.memory", "--child", str(config.folder)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=ROOT)
    measured = int((config.folder / "measured").read_text())
    load_ = Load(QUESTION_TOKENS, ANSWER_TOKENS, attention="eager", stored_in_bf16=False)
    model = read_architecture(str(base), (IMAGE_SIDE, IMAGE_SIDE))
    estimated = estimate(model, spec, load_, eval_batch_size=1).bare
    return {
        "training": case,
        "batch": spec.batch_size,
        "parameters": model.parameters,
        "measured MB": round(measured / 1e6),
        "estimated MB": round(estimated / 1e6),
        "measured / estimated": measured / estimated,
    }


def run_child(folder: Path) -> None:
    config = load(RunConfig, folder / "run.json")
    assert config is not None
    before, highest, over = anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not over.wait(SAMPLE_SECONDS) and not config.candidate.exists():
            highest = max(highest, anonymous())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        run_training(config)
    finally:
        over.set()
        thread.join()
    (folder / "measured").write_text(str(highest - before))


def anonymous() -> int:
    """Bytes of this process's memory that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def medium_model(folder: Path) -> Path:
    if not folder.exists():
        processor = AutoProcessor.from_pretrained(STUDENT)
        build_model(SIZE, processor, 0).save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder


def run_config(case: str, spec: TrainSpec, base: Path, folder: Path) -> RunConfig:
    """A job over pictures of the demo's world, in a store of its own."""
    store = Store((folder / "store").as_uri())
    job = f"memory-{hashlib.sha256(case.encode()).hexdigest()[:8]}"
    rows = [row(job, index, picture, folder / "images") for index, picture in enumerate(pile(32, 0, World.TRAIN))]
    write_shard(store, job, 0, rows)
    return RunConfig(
        job_id=job,
        spec=JobSpec(images=[FolderSource(path="unused")], tasks=["text"], train=spec),
        folder=folder / job,
        base_version="base",
        base_folder=base,
        store_url=store.url,
        cache_dir=folder / "cache",
        set_digest=set_digest(store, job),
        tasks_file=ROOT / "demo" / "tasks.yaml",
        device="cpu",
    )


def row(job: str, index: int, picture: Picture, images: Path) -> Row:
    images.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(picture.pixels).save(buffer, "PNG")
    path = images / f"{index}.png"
    path.write_bytes(buffer.getvalue())
    question = picture.questions[0]
    return Row(
        job_id=job,
        shard=0,
        image_index=index,
        slot=0,
        image=str(path),
        image_sha256=hashlib.sha256(buffer.getvalue()).hexdigest(),
        task="text",
        split=Split.TRAIN,
        verdict=Verdict.DISPARITY,
        question=question.text,
        teacher_answer=question.answer,
        student_answer="",
    )


if __name__ == "__main__":
    main()
