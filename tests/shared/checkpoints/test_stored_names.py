"""Each stored name stands for a tensor of the loaded model, for one that the model makes of it, or for none."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from shared.checkpoints.stored_names import find_places
from shared.vlm.loading import load_model
from tests.tiny_families import FAMILIES, seeded
from tests.tiny_models import build_tiny_idefics3


def test_names_of_the_model_stand_for_its_own_tensors(tmp_path: Path) -> None:
    folder = build_tiny_idefics3(tmp_path)
    model = load_model(folder).model
    stored = load_file(folder / "model.safetensors")
    found = find_places(model, [*stored, "some.head.weight", "lm_head.weight"])
    assert found.places.keys() == stored.keys() | {"lm_head.weight"}
    assert all(found.places[name].shape == tensor.shape for name, tensor in stored.items())
    assert (found.unused, found.converted) == ({"some.head.weight"}, set())
    tied = found.places["model.text_model.embed_tokens.weight"]
    assert found.places["lm_head.weight"].data_ptr() == tied.data_ptr()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_familys_files_are_used_wholly(family: str, tmp_path: Path) -> None:
    folder = seeded(family, tmp_path)
    model = load_model(folder).model
    names = [name for file in folder.glob("*.safetensors") for name in load_file(file)]
    found = find_places(model, names)
    assert names
    assert found.unused == set()
    assert found.places.keys() | found.converted == set(names)
