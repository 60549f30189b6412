"""The check notices every way in which scores have been reported to be out of step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import services.student.engines.score_check as score_check
from services.student.engines.score_check import largest_gap, misalignment
from shared.vlm.loading import LoadedModel, load_model
from shared.vlm.scoring import Score
from tests.tiny_models import build_tiny_idefics3, build_tiny_llava


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(build_tiny_idefics3(tmp_path_factory.mktemp("tiny"), seed=4))


def test_right_scores_pass(loaded: LoadedModel) -> None:
    assert misalignment(loaded) == ""


def test_another_family_passes(tmp_path: Path) -> None:
    assert misalignment(load_model(build_tiny_llava(tmp_path, seed=4))) == ""


def test_scores_of_the_tokens_next_door_are_noticed(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    right = score_check.score_batch

    def shifted(loaded: LoadedModel, pairs: Any) -> list[Score]:
        return [replace(s, logprobs=(*s.logprobs[1:], s.logprobs[0])) for s in right(loaded, pairs)]

    monkeypatch.setattr(score_check, "score_batch", shifted)
    assert "nats off a plain forward pass" in misalignment(loaded)


def test_a_check_that_cannot_run_is_no_pass(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> list[Score]:
        raise KeyError("pixel_values")

    monkeypatch.setattr(score_check, "score_batch", fails)
    assert "the check itself failed (KeyError" in misalignment(loaded)


@pytest.mark.parametrize(("found", "wanted", "gap"), [([1.0], [1.0, 2.0], float("inf")), ([1.0, 2.5], [1.0, 2.0], 0.5)])
def test_gaps(found: list[float], wanted: list[float], gap: float) -> None:
    assert largest_gap(found, wanted) == gap


def test_what_is_no_number_is_infinitely_off() -> None:
    assert largest_gap([float("nan")], [0.0]) == float("inf")
