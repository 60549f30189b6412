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
