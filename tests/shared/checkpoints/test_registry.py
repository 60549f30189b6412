"""The registry: the base, publishing, listing, and a store without folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.checkpoints import CARD_NAME, CheckpointRegistry, verify_folder
from shared.errors import BadCheckpoint, Conflict, NotFound
from shared.store import Store
from tests.shared.checkpoints.small_folder import model_folder, publish


def test_the_base_is_registered_once_and_becomes_active(registry: CheckpointRegistry, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "base")
    assert registry.register_base(folder) == "base"
    assert registry.register_base(folder) == "base"
    assert registry.active().version == "base"
    assert registry.active().generation == 0
    verify_folder(registry.local("base"), registry.card("base"))


def test_base_leaves_pickles_and_exports_behind(registry: CheckpointRegistry, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "hub")
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.json").write_text("{}")
    registry.register_base(folder)
    names = [file.name for file in registry.card("base").files]
    assert names == ["config.json", "model.safetensors", "tokenizer.json"]


def test_of_several_weight_files_the_base_keeps_those_that_are_loaded(
    registry: CheckpointRegistry, tmp_path: Path
) -> None:
    folder = model_folder(tmp_path / "hub")
    for name in ("consolidated.safetensors", "model.fp16.safetensors", "adapter_model.safetensors"):
        (folder / name).write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/other"}')
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a.weight": "model-1.safetensors"}}')
    registry.register_base(folder)
    names = [file.name for file in registry.card("base").files]
    assert names == ["config.json", "model.safetensors", "tokenizer.json"]
    verify_folder(registry.local("base"), registry.card("base"))


NAMING_CODE = {
    "config.json": '{"auto_map": {"AutoModel": "modeling_my.Model"}}',
    "tokenizer_config.json": '{"auto_map": {"AutoTokenizer": ["tokenization_my.Tokenizer", null]}}',
    "processor_config.json": '{"image_processor": {"auto_map": {"AutoImageProcessor": "images.Images"}}}',
    "preprocessor_config.json": '{"auto_map": {"AutoProcessor": "org/repo--processing_my.Processor"}}',
}


@pytest.mark.parametrize("naming", NAMING_CODE)
def test_a_base_that_names_code_of_its_own_keeps_it(registry: CheckpointRegistry, tmp_path: Path, naming: str) -> None:
    folder = model_folder(tmp_path / "hub")
    (folder / "parts" / ".hidden").mkdir(parents=True)
    code = ["modeling_my.py", "parts/__init__.py", "parts/vision.py"]
    for name in (*code, "parts/.hidden/x.py"):
        (folder / name).write_text("raise AssertionError('this must never run')")
    registry.register_base(folder)
    assert not [file.name for file in registry.card("base").files if file.name.endswith(".py")]
    (folder / naming).write_text(NAMING_CODE[naming])
    version = registry.register_base(folder)
    assert [file.name for file in registry.card(version).files if file.name.endswith(".py")] == code
    verify_folder(registry.local(version), registry.card(version))


def test_a_snapshot_of_links_is_copied_as_files_with_its_templates(
    registry: CheckpointRegistry, tmp_path: Path
) -> None:
    folder, blobs = model_folder(tmp_path / "snapshot"), tmp_path / "blobs"
    (folder / "additional_chat_templates").mkdir()
    templates = ["additional_chat_templates/rag.jinja", "chat_template.jinja", "chat_template.json", "qwen.tiktoken"]
    for name in templates:
        (folder / name).write_text("{}")
    blobs.mkdir()
    for number, path in enumerate([path for path in folder.rglob("*") if path.is_file()]):
        path.rename(blobs / str(number))
        path.symlink_to(blobs / str(number))
    registry.register_base(folder)
    held = registry.local("base")
    assert set(templates) < {file.name for file in registry.card("base").files}
    assert not any(path.is_symlink() for path in held.rglob("*"))
    verify_folder(held, registry.card("base"))


def test_another_configured_model_gets_its_own_name_and_takes_nothing_over(
    registry: CheckpointRegistry, tmp_path: Path
) -> None:
    registry.register_base(model_folder(tmp_path / "one", 1))
    version = registry.register_base(model_folder(tmp_path / "two", 2))
    assert version.startswith("base-")
    assert registry.active().version == "base"
    assert registry.versions() == ["base", version]


def test_publishing_again_changes_nothing_and_other_content_is_refused(
    registry: CheckpointRegistry, tmp_path: Path
) -> None:
    card = publish(registry, tmp_path, "job-1", 1)
    publish(registry, tmp_path, "job-1", 1)
    assert registry.card("job-1").created_at == card.created_at
    with pytest.raises(Conflict, match="other content"):
        publish(registry, tmp_path, "job-1", 2)


def test_a_version_without_a_valid_card_is_not_listed(registry: CheckpointRegistry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "job-1", 1)
    model_folder(tmp_path / "store" / "checkpoints" / "student" / "half")
    broken = model_folder(tmp_path / "store" / "checkpoints" / "student" / "broken")
    (broken / CARD_NAME).write_text("{}")
    assert registry.versions() == ["job-1"]
    with pytest.raises(NotFound, match="job-1"):
        registry.set_active("half", "me")
    with pytest.raises(BadCheckpoint):
        registry.card("broken")


def test_listing_shows_lineage(registry: CheckpointRegistry, tmp_path: Path) -> None:
    registry.register_base(model_folder(tmp_path / "base"))
    publish(registry, tmp_path, "job-1", 1)
    registry.set_active("job-1", "me")
    listing = registry.list()
    assert (listing.active, listing.previous) == ("job-1", "base")
    assert [(c.version, c.active, c.base) for c in listing.checkpoints] == [
        ("base", False, None),
        ("job-1", True, "base"),
    ]


def test_the_registry_works_on_an_object_store(tmp_path: Path) -> None:
    registry = CheckpointRegistry(Store(f"memory://{tmp_path.name}", tmp_path / "cache"), "student")
    registry.register_base(model_folder(tmp_path / "base"))
    publish(registry, tmp_path, "job-1", 1)
    registry.set_active("job-1", "me")
    verify_folder(registry.local("job-1"), registry.card("job-1"))
    assert registry.rollback("me").version == "base"
