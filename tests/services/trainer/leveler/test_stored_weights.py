"""A candidate's weights stand in the files, names and dtypes of its base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.trainer.leveler.models import add_lora, save_candidate
from services.trainer.leveler.stored_weights import same_bytes
from shared.checkpoints import read_tensor_table
from shared.contracts import LoraSpec
from shared.errors import BadCheckpoint
from shared.vlm.loading import load_model


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def with_more(student: Path, folder: Path, **more: torch.Tensor) -> Path:
    """``student`` with more tensors in its weight file."""
    shutil.copytree(student, folder)
    save_file(weights(student) | more, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


UNUSED = {
    "model.text_model.layers.0.self_attn.rotary_emb.inv_freq": torch.tensor([1.0, torch.nan]),
    "model.vision_model.embeddings.position_ids": torch.arange(9)[None],
    "some.head.weight": torch.ones(3, dtype=torch.float16),
    "logit_scale": torch.tensor(2.0),
    "some.scale": torch.ones(3).to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("adapted", [False, True], ids=["full", "lora"])
def test_tensors_that_the_model_does_not_use_are_carried_over(
    tmp_path: Path, tiny_student: Path, adapted: bool
) -> None:
    base = with_more(tiny_student, tmp_path / "base", **UNUSED)
    model = load_model(base).model
    name, first = next((n, p) for n, p in model.named_parameters() if n.endswith("o_proj.weight"))
    first.data += 1.0
    changed = save_candidate(add_lora(model, LoraSpec(rank=4), seed=0) if adapted else model, base, tmp_path / "made")
    assert changed == [name]
    assert read_tensor_table(tmp_path / "made") == read_tensor_table(base)
    made = weights(tmp_path / "made")
    assert all(same_bytes(made[name], tensor) for name, tensor in UNUSED.items())


def test_a_second_name_of_a_tied_weight_gets_the_trained_values(tmp_path: Path, tiny_student: Path) -> None:
    embedding = "model.text_model.embed_tokens.weight"
    base = with_more(tiny_student, tmp_path / "base", **{"lm_head.weight": weights(tiny_student)[embedding].clone()})
    model = load_model(base).model
    model.get_input_embeddings().weight.data += 1.0
    assert save_candidate(model, base, tmp_path / "made") == ["lm_head.weight", embedding]
    assert torch.equal(weights(tmp_path / "made")["lm_head.weight"], weights(tmp_path / "made")[embedding])


def test_a_base_that_lacks_a_weight_is_refused(tmp_path: Path, tiny_student: Path) -> None:
    base = with_more(tiny_student, tmp_path / "base")
    held = weights(base)
    del held["model.connector.modality_projection.proj.weight"]
    save_file(held, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadCheckpoint, match=r"does not store 'model\.connector.*random values"):
        save_candidate(load_model(base).model, base, tmp_path / "made")


def test_a_candidate_has_the_files_and_dtypes_of_its_base(tmp_path: Path, tiny_student: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_student, base)
    dtypes = (torch.float16, torch.bfloat16, torch.float32)
    mixed = {name: t.to(dtypes[number % 3]) for number, (name, t) in enumerate(weights(tiny_student).items())}
    names = sorted(mixed)
    (base / "model.safetensors").unlink()
    parts = {"part-1.safetensors": names[::2], "part-2.safetensors": names[1::2]}
    for file, chosen in parts.items():
        save_file({name: mixed[name] for name in chosen}, base / file, metadata={"format": "pt"})
    named = {name: file for file, chosen in parts.items() for name in chosen}
    (base / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": named}))
    save_file({"stray": torch.zeros(1)}, base / "consolidated.safetensors")
    model = load_model(base).model
    assert save_candidate(model, base, tmp_path / "made") == []
    assert {path.name for path in (tmp_path / "made").glob("*.safetensors")} == parts.keys()
    for name in (*parts, "model.safetensors.index.json"):
        assert read_tensor_table(base / name if name in parts else base) == read_tensor_table(
            tmp_path / "made" / name if name in parts else tmp_path / "made"
        )
    load_model(tmp_path / "made")
