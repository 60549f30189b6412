"""What is frozen with the vision tower."""

from __future__ import annotations

from pathlib import Path

from services.trainer.leveler.image_features import freeze_vision
from services.trainer.leveler.models import language_model
from shared.vlm.loading import load_model


def test_freezing_leaves_the_language_model_and_its_head(tiny_student: Path) -> None:
    model = load_model(tiny_student).model.requires_grad_(True)
    freeze_vision(model)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {name for name, _ in model.named_parameters() if "text_model" in name}
    assert language_model(model) is model.model.text_model
