"""Sizes of models, read from their real classes: those that were published, and every family's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.trainer.estimate.architecture import read_architecture
from services.trainer.estimate.memory import Load, estimate
from shared.contracts import TrainSpec
from shared.errors import InvalidInput
from tests.tiny_families import FAMILIES, seeded

SIZE = (1024, 768)


@pytest.mark.parametrize(
    ("name", "millions", "pictures"),
    [
        ("smolvlm-500m", 507.5, 17),
        ("qwen2-vl-2b", 2209.0, 1),
        ("internvl2-2b", 2205.8, 13),
        ("internvl2-4b", 4146.9, 13),
    ],
)
def test_known_models_have_the_published_size(name: str, millions: float, pictures: int) -> None:
    model = read_architecture(name, SIZE)
    assert model.parameters / 1e6 == pytest.approx(millions, abs=0.1)
    assert model.pictures == pictures


def test_images_become_as_many_tokens_as_the_model_cards_say() -> None:
    qwen = read_architecture("qwen2-vl-2b", SIZE)
    assert (qwen.patches, qwen.tokens) == (3996, 999)
    smol, intern = (read_architecture(name, SIZE) for name in ("smolvlm-500m", "internvl2-2b"))
    assert (smol.patches, smol.tokens) == (1024, 64)
    assert (intern.patches, intern.tokens) == (1024, 256)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_read(family: str, tmp_path: Path) -> None:
    model = read_architecture(str(seeded(family, tmp_path)), (64, 64))
    assert model.text.blocks == 2
    assert 0 < model.language < model.parameters < 200_000
    assert estimate(model, TrainSpec(), Load(), 1).peak > estimate(model, TrainSpec(), Load(), 1).bare


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="smolvlm-500m"):
        read_architecture("gpt-17", SIZE)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InvalidInput, match="not JSON"):
        read_architecture(str(tmp_path), SIZE)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_family"}))
    with pytest.raises(InvalidInput, match="no_such_family"):
        read_architecture(str(tmp_path), SIZE)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 32}))
    with pytest.raises(InvalidInput, match="vision-language"):
        read_architecture(str(tmp_path), SIZE)
