"""The same training as others would write it: Hugging Face's Trainer with a naive collator, and TRL's SFTTrainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from benchmarks.training.workload import Pair
from services.trainer.leveler.image_features import freeze_vision as freeze
from shared.vqa.tasks import load_profiles

IGNORE = -100
_PROCESSOR: Any = AutoProcessor  # untyped


@dataclass(frozen=True)
class Course:
    """A training: of the student in the folder ``model``; ``attention`` is transformers' name, None its default."""

    model: Path
    work: Path
    batch_size: int
    steps: int
    learning_rate: float
    attention: str | None
    freeze_vision: bool


class Watch(Protocol):
    """Records the time of each step."""

    def start(self) -> None: ...

    def step(self) -> None: ...


class _Steps(TrainerCallback):
    """Tells the clock of each step, and keeps the losses."""

    def __init__(self, clock: Watch) -> None:
        self._clock = clock
        self.losses: list[float] = []

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._clock.step()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def loss(self) -> float:
        return sum(self.losses[-10:]) / len(self.losses[-10:])


class NaiveCollator:
    """Opens, processes and pads a batch when it is asked for, as tutorials do."""

    def __init__(self, processor: Any, tasks: Path) -> None:
        self._processor, self._profiles = processor, load_profiles(tasks)

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, torch.Tensor]:
        prompts = [prompt_of(self._processor, self._profiles, pair) for pair in pairs]
        eos = self._processor.tokenizer.eos_token
        answers = [pair.answer + eos for pair in pairs]
        batch = self._processor(
            text=[prompt + answer for prompt, answer in zip(prompts, answers, strict=True)],
            images=[[Image.open(pair.image).convert("RGB")] for pair in pairs],
            padding=True,
            return_tensors="pt",
            add_special_tokens=False,
        )
        labels = torch.full_like(batch["input_ids"], IGNORE)
        for row, answer in enumerate(answers):
            length = len(self._processor.tokenizer(answer, add_special_tokens=False)["input_ids"])
            end = int(batch["attention_mask"][row].sum())
            labels[row, end - length : end] = batch["input_ids"][row, end - length : end]
        return {**batch, "labels": labels}


def prompt_of(processor: Any, profiles: Any, pair: Pair) -> str:
    """The prompt that serving sees."""
    text = profiles[pair.task].answer_prompt(pair.question)
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
    return str(processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False))


def train_with_hf(course: Course, pairs: list[Pair], clock: Watch) -> float:
    """A plain Trainer, with the model's own loss; returns the mean loss of the last ten steps."""
    model, processor = _load(course)
    steps_of = _Steps(clock)
    clock.start()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**_arguments(course)),
        train_dataset=pairs,  # type: ignore[arg-type]
        data_collator=NaiveCollator(processor, Path("demo/tasks.yaml")),
        callbacks=[steps_of],
    )
    trainer.train()
    return steps_of.loss()


def train_with_trl(course: Course, pairs: list[Pair], clock: Watch) -> float:
    """TRL's SFTTrainer on prompts and completions, loss on the completions only; returns as ``train_with_hf``."""
    from datasets import Dataset, Features, List, Value
    from datasets import Image as ImageFeature
    from trl import SFTConfig, SFTTrainer

    model, processor = _load(course)
    profiles = load_profiles(Path("demo/tasks.yaml"))
    rows = [
        {
            "images": [str(pair.image)],
            "prompt": prompt_of(processor, profiles, pair),
            "completion": pair.answer + processor.tokenizer.eos_token,
        }
        for pair in pairs
    ]
    features = Features({"images": List(ImageFeature()), "prompt": Value("string"), "completion": Value("string")})
    steps_of = _Steps(clock)
    clock.start()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            **_arguments(course),
            max_length=None,
            completion_only_loss=True,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list(rows, features=features),
        processing_class=processor,
        callbacks=[steps_of],
    )
    trainer.train()
    return steps_of.loss()


def _load(course: Course) -> tuple[Any, Any]:
    options = {"attn_implementation": course.attention} if course.attention else {}
    model = AutoModelForImageTextToText.from_pretrained(str(course.model), dtype=torch.float32, **options)
    processor = _PROCESSOR.from_pretrained(str(course.model))
    processor.tokenizer.padding_side = "right"
    if course.freeze_vision:
        freeze(model)
    return model, processor


def _arguments(course: Course) -> dict[str, Any]:
    return {
        "output_dir": str(course.work),
        "max_steps": course.steps,
        "per_device_train_batch_size": course.batch_size,
        "learning_rate": course.learning_rate,
        "lr_scheduler_type": "cosine",
        "max_grad_norm": 1.0,
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "seed": 1,
    }
