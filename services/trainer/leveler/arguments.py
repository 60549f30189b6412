"""What a training needs besides its spec, and both as the arguments of Hugging Face's Trainer."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from transformers import TrainingArguments

from services.trainer.launch.ranks import ALONE, Ranks
from services.trainer.leveler.rates import warmup_steps
from shared.contracts import TrainSpec

_CURVE_POINTS = 2000


@dataclass(frozen=True)
class TrainFolders:
    """Where a training reads and writes."""

    base: Path
    """The checkpoint that is trained."""
    steps: Path
    """The Trainer's own checkpoints."""
    progress: Path
    """A JSONL file with a line for each step."""
    candidate: Path
    """The result, a plain Hugging Face folder."""
    features: Path
    """Image features that do not fit in memory."""
    curves: Path
    """TensorBoard's files."""


@dataclass(frozen=True)
class TrainPlace:
    """Where and how a training runs, which does not change the result."""

    cpu: bool
    """Train on the CPU even if there is a GPU."""
    cache_bytes: int
    """Memory for image features, in bytes."""
    ranks: Ranks = ALONE
    """Which of the training's processes this one is."""
    report_to: tuple[str, ...] = ()
    """Reporters of transformers: tensorboard, mlflow, wandb."""
    name: str = "mpa"
    """Name of the run in these reporters."""


def training_arguments(
    spec: TrainSpec, folders: TrainFolders, steps: int, place: TrainPlace, *, seed: int
) -> TrainingArguments:
    """The Trainer's arguments. Making them also connects this process with the others of the training."""
    if "tensorboard" in place.report_to:
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folders.curves)
    arguments = TrainingArguments(
        output_dir=str(folders.steps),
        run_name=place.name,
        max_steps=steps,
        per_device_train_batch_size=math.ceil(spec.batch_size / place.ranks.count),
        gradient_accumulation_steps=spec.gradient_accumulation,
        gradient_checkpointing=spec.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        # Some towers have weights that no forward pass touches; a decoder has none.
        ddp_find_unused_parameters=spec.method == "full" and not spec.freeze_vision,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="cosine",  # the Leveler makes it, without the rate of 0 that the library begins with
        warmup_steps=warmup_steps(steps, spec.warmup_fraction),
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=spec.precision == "bf16",
        use_cpu=place.cpu,
        seed=seed,
        save_strategy="steps",
        save_steps=spec.save_every_steps,
        save_total_limit=2,
        logging_strategy="steps" if place.report_to else "no",
        logging_steps=max(1, steps // _CURVE_POINTS),
        logging_nan_inf_filter=False,
        report_to="none",  # the callbacks add reporters, in their order
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=not place.cpu,
    )
    if arguments.n_gpu > 1:
        # One device per process: several devices are for several processes, not for DataParallel.
        arguments._n_gpu = 1
    return arguments
