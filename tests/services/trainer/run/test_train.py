"""A training in one process: interrupted and resumed, or begun with another set."""

from __future__ import annotations

import base64
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import TrainerState

from services.trainer.leveler.callbacks.progress import ProgressFile
from services.trainer.run.evaluate import run_evaluation
from services.trainer.run.train import run_training
from services.trainer.run_config import read_progress
from shared.contracts import LossSpec, TrainSpec
from shared.errors import InvalidInput
from shared.escapes import Escapes
from shared.store import Store
from shared.vlm.loading import load_model
from shared.vlm.prompting import question_prompt
from tests.scoring import score_answers
from tests.services.trainer.full_set import EVERYTHING, config_for, make_full_set
from tests.services.trainer.resumption import check_resumed, saved_progress
from tests.services.trainer.small_set import COLOURS, TRAIN, make_set, run_config

SPEC = TrainSpec(batch_size=4, max_steps=15, learning_rate=2e-3, save_every_steps=5)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"method": "lora"}, {"freeze_vision": True, "gradient_accumulation": 2}])
def test_interrupted_and_resumed_ends_in_the_same_weights(
    tmp_path: Path, small_set: Store, tiny_student: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    spec = TrainSpec.model_validate({**SPEC.model_dump(), **changes})
    undisturbed = run_config(tmp_path, tiny_student, spec, folder="undisturbed")
    run_training(undisturbed)
    broken = run_config(tmp_path, tiny_student, spec, folder="broken")
    with monkeypatch.context() as patched:
        patched.setattr(ProgressFile, "on_step_end", _interrupt_at(12))
        with pytest.raises(KeyboardInterrupt):
            run_training(broken)
    assert not broken.candidate.exists()
    kept = saved_progress(broken.folder)
    run_training(broken)
    check_resumed(broken.folder, kept, 15)
    one, two = (load_file(config.candidate / "model.safetensors") for config in (undisturbed, broken))
    assert all(torch.equal(one[name], two[name]) for name in one)


SPELLED = ("the <image> tag", "<end_of_utterance>", "<fake_token_around_image><global-img>", "red<|user|> why?")
"""Answers by colour."""


def test_questions_and_answers_that_spell_special_tokens_are_learned(
    tmp_path: Path, store: Store, tiny_student: Path
) -> None:
    question = "<image>\nwhat colour is the <|assistant|> red<end_of_utterance>?"
    make_set(store, "j1", tmp_path / "images", question=question, answers=SPELLED)
    config = run_config(tmp_path, tiny_student, SPEC)
    result = run_training(config)
    assert (result.disparity_pairs, result.replay_pairs) == (8, 8)
    losses = [line.loss for line in read_progress(config.progress_file)]
    assert losses[-1] < 0.8 * losses[0]
    before, after = (_scores(folder, question) for folder in (tiny_student, config.candidate))
    assert all(new > old for new, old in zip(after, before, strict=True))


def test_every_term_takes_texts_that_spell_special_tokens(tmp_path: Path, store: Store, tiny_student: Path) -> None:
    make_full_set(store, tiny_student, tmp_path / "images", answers=SPELLED)
    result = run_training(config_for(tmp_path, tiny_student, EVERYTHING))
    assert result.disparity_pairs == 8 and math.isfinite(result.final_loss)


def test_a_pair_that_cannot_be_learned_does_not_end_the_training(
    tmp_path: Path, store: Store, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_set(store, "j1", tmp_path / "images", answers=("</s>", "red", "green", "blue"))
    monkeypatch.setattr("services.trainer.data.learnable.escapes_of", lambda _: Escapes(refused=("</s>",)))
    assert run_training(run_config(tmp_path, tiny_student, SPEC)).disparity_pairs == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train.parquet", "data-00000.arrow", "train.jsonl"])
def test_images_in_a_table_train_the_same_weights_as_files(
    tmp_path: Path, store: Store, tiny_student: Path, name: str
) -> None:
    short = TRAIN.model_copy(update={"max_steps": 3})
    make_set(store, "files", tmp_path / "images")
    from_files = run_config(tmp_path, tiny_student, short, folder="a", job_id="files")
    run_training(from_files)
    make_set(store, "table", tmp_path / "images", named=lambda number, _: f"{tmp_path}/{name}#{number}")
    _write_table(tmp_path / name, [path.read_bytes() for path in sorted((tmp_path / "images").iterdir())])
    shutil.rmtree(tmp_path / "images")
    from_table = run_config(tmp_path, tiny_student, short, folder="b", job_id="table")
    assert run_training(from_table).disparity_pairs == 8
    weights = [config.candidate / "model.safetensors" for config in (from_files, from_table)]
    assert weights[0].read_bytes() == weights[1].read_bytes() != (tiny_student / "model.safetensors").read_bytes()
    assert run_evaluation(from_table).smoke is not None


def _write_table(path: Path, images: list[bytes]) -> None:
    table = pa.table({"image": [{"bytes": data, "path": None} for data in images], "label": ["label"] * len(images)})
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=5)
    elif path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    else:
        cells = ({"bytes": base64.b64encode(data).decode(), "path": None} for data in images)
        path.write_text("\n".join(json.dumps({"image": cell}) for cell in cells))


def _scores(folder: Path, question: str) -> list[float]:
    loaded = load_model(folder)
    prompt = question_prompt(loaded, Image.new("RGB", (96, 96), COLOURS["red"]), question)
    return [score.mean for score in score_answers(loaded, [prompt], [SPELLED])[0]]


def _interrupt_at(step: int) -> Callable[..., None]:
    original = ProgressFile.on_step_end

    def on_step_end(progress: ProgressFile, args: Any, state: TrainerState, control: Any, **more: Any) -> None:
        if state.global_step == step:
            raise KeyboardInterrupt
        original(progress, args, state, control, **more)

    return on_step_end


def test_a_set_that_changed_since_the_training_began_is_refused(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    config = replace(config_for(tmp_path, tiny_student, LossSpec()), set_digest="0" * 64)
    with pytest.raises(InvalidInput, match="the training began with 000000000000"):
        run_training(config)
