"""What a loaded model keeps of its folder: nothing that a later change of the files could reach."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from shared.checkpoints import CheckpointRegistry
from shared.errors import BadCheckpoint
from shared.store import Store
from shared.vlm.loading import load_model
from tests.tiny_models import build_tiny_idefics3

ANSWER_WITHOUT_FILES = """
import sys
from pathlib import Path
from PIL import Image
from shared.vlm.generation import generate
from shared.vlm.loading import load_model
from shared.vlm.prompting import question_prompt
from shared.vlm.sampling import Sampling

folder = Path(sys.argv[1])
loaded = load_model(folder)
(folder / "model.safetensors").write_bytes(b"")
prompt = question_prompt(loaded, Image.new("RGB", (96, 96), "red"), "what is this?")
print("answered", len(generate(loaded, [prompt], [Sampling(max_tokens=4)])[0].tokens))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return build_tiny_idefics3(tmp_path_factory.mktemp("model"), seed=11)


@pytest.mark.slow
def test_a_weight_file_that_is_truncated_later_harms_nobody(folder: Path, tmp_path: Path) -> None:
    """In a process of its own: the kernel would kill it if weights were still mapped from the file."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    command = [sys.executable, "-c", ANSWER_WITHOUT_FILES, str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, "answered 4" in done.stdout) == (0, True), done.stderr


def test_a_processor_is_shared_between_checkpoints_with_the_same_files(folder: Path, tmp_path: Path) -> None:
    first = load_model(folder)
    same = shutil.copytree(folder, tmp_path / "same")
    (same / "mpa_card.json").write_text("{}")
    assert load_model(same, like=first).processor is first.processor
    changed = shutil.copytree(folder, tmp_path / "changed")
    template = changed / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    other = load_model(changed, like=first)
    assert other.processor is not first.processor
    assert other.processor.chat_template != first.processor.chat_template


OWN_CODE = """
from transformers import Idefics3Config, Idefics3ForConditionalGeneration

class OwnConfig(Idefics3Config):
    model_type = "own_idefics3"

class OwnModel(Idefics3ForConditionalGeneration):
    config_class = OwnConfig
"""
OWN_CLASSES = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForImageTextToText": "modeling_own.OwnModel"}


def test_a_registered_base_with_code_of_its_own_loads_only_where_code_is_trusted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    own = shutil.copytree(folder, tmp_path / "own")
    config = json.loads((own / "config.json").read_text())
    config |= {"model_type": "own_idefics3", "architectures": ["OwnModel"], "auto_map": OWN_CLASSES}
    (own / "config.json").write_text(json.dumps(config))
    (own / "modeling_own.py").write_text(OWN_CODE)
    registry = CheckpointRegistry(Store((tmp_path / "store").as_uri()), "student")
    registered = registry.local(registry.register_base(own))
    with pytest.raises(BadCheckpoint, match="MPA_TRUST_REMOTE_CODE"):
        load_model(registered)
    loaded = load_model(registered, trust_remote_code=True)
    assert type(loaded.model).__name__ == "OwnModel"
    plain = load_model(folder)
    pairs = zip(loaded.model.parameters(), plain.model.parameters(), strict=True)
    same = [torch.equal(one, other) for one, other in pairs]
    assert same and all(same)


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("config.json", {"model_type": "mine", "auto_map": {"AutoConfig": "owner/repo--my.Config"}}),
        (
            "tokenizer_config.json",
            {"tokenizer_class": "My", "auto_map": {"AutoTokenizer": ["owner/repo--my.My", None]}},
        ),
        ("processor_config.json", {"processor_class": "My", "auto_map": {"AutoProcessor": "owner/repo--my.My"}}),
    ],
)
def test_code_in_another_repository_is_named(
    folder: Path, tmp_path: Path, file: str, named: dict[str, Any], trusted: bool
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "base"))
    known = json.loads((copy / file).read_text()) if (copy / file).exists() else {}
    (copy / file).write_text(json.dumps(known | named))
    with pytest.raises(BadCheckpoint, match=r"in another repository \(.*owner/repo--my\..*copy it into the folder"):
        load_model(copy, trust_remote_code=trusted)


def adapted(student: Path) -> Any:
    """The student with an adapter, and with a layer that is trained whole."""
    return get_peft_model(
        load_model(student).model, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["connector"])
    )


def test_an_adapter_alone_is_refused_in_words(folder: Path, tmp_path: Path) -> None:
    adapted(folder).save_pretrained(str(tmp_path / "adapter"))
    with pytest.raises(BadCheckpoint, match="LoRA adapter: merge it into its base"):
        load_model(tmp_path / "adapter")
    registry = CheckpointRegistry(Store((tmp_path / "store").as_uri()), "student")
    with pytest.raises(BadCheckpoint, match="LoRA adapter: merge it into its base"):
        registry.register_base(tmp_path / "adapter")


def test_weights_with_an_adapter_that_was_not_merged_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "base"))
    model = adapted(folder)
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadCheckpoint, match=r"random values.*merge it"):
        load_model(copy)
    model.merge_and_unload().save_pretrained(str(copy))
    load_model(copy)


def test_weights_that_are_missing_are_not_replaced_by_random_ones(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "base"))
    tensors = load_file(copy / "model.safetensors")
    del tensors["model.connector.modality_projection.proj.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadCheckpoint, match=r"does not store 'model\.connector\.modality_projection\.proj\.weight'"):
        load_model(copy)
