"""A set with all that a job can measure of its pairs, and trainings with every term of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from services.trainer.run_config import RunConfig
from shared.contracts import LossSpec, TrainSpec
from shared.sets import Alternative, Row, read_set, write_shard
from shared.store import Store
from tests.services.trainer.small_set import COLOURS, Counts, make_set, run_config

EVERYTHING = LossSpec(
    preset="discrepancy",
    weigh_by=["vote_share", "confidence", "reasoning", "attention"],
    consistency=0.5,
    rationale=0.5,
    attention=0.5,
)
QUICK: dict[str, Any] = {"batch_size": 8, "max_steps": 4, "learning_rate": 3e-3, "save_every_steps": 2}
TASKS = """
tasks:
  - name: chart
    metric: exact
    prompts: {ask: ask, ask_and_answer: ask, answer: "{question}", explain: "why {question} {answer}"}
  - {name: text, metric: exact, prompts: {ask: ask, ask_and_answer: ask, answer: "{question}"}}
  - {name: know, metric: exact, prompts: {ask: ask, ask_and_answer: ask, answer: "{question}"}}
"""


def top_of(student: Path, answer: str) -> tuple[tuple[Alternative, ...], ...]:
    """What a teacher with the student's tokenizer might have said of ``answer``, in one or more tokens, and its end."""
    tokenizer = AutoTokenizer.from_pretrained(student)
    ids = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    other = tokenizer.decode([next(i for i in range(50, 99) if i not in ids)])
    return tuple((Alternative(tokenizer.decode([token]), -0.1), Alternative(other, -2.5)) for token in ids)


def make_full_set(
    store: Store,
    student: Path,
    images: Path,
    job_id: str = "j1",
    counts: Counts | None = None,
    answers: Sequence[str] = tuple(COLOURS),
) -> None:
    """The small set with all that a job can measure; every second disparity pair comes from another tokenizer."""
    make_set(store, "plain", images, counts or Counts(), answers=answers)
    rows = []
    for number, values in enumerate(read_set(store, "plain").to_pylist()):
        del values["pair_id"]
        kept = values["verdict"] == "disparity"
        row = Row(**values | {"job_id": job_id, "votes": ()})
        if kept:
            row = replace(
                row,
                votes=(row.teacher_answer, row.teacher_answer, "dark"),
                vote_share=2 / 3,
                student_answer="black",
                teacher_top=top_of(student, str(row.teacher_answer)) if number % 2 else ((Alternative("▁x", -0.1),),),
                rationale=f"the whole picture is {row.teacher_answer}",
                confidence_gap=0.5,
                reasoning_gap=0.25 * (number % 3),
                attention_gap=0.4,
                teacher_attention=tuple([1 / 16] * 16),
            )
        rows.append(row)
    write_shard(store, job_id, 0, rows)


def config_for(tmp_path: Path, student: Path, loss: LossSpec, folder: str = "work", **train: Any) -> RunConfig:
    tasks = tmp_path / "tasks.yaml"
    tasks.write_text(TASKS)
    spec = TrainSpec.model_validate({**QUICK, **train, "loss": loss.model_dump()})
    return replace(run_config(tmp_path, student, spec, folder=folder), tasks_file=tasks)
