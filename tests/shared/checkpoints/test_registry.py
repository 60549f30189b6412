"""Checkpoint folders, cards and the registry."""

from __future__ import annotations

import json
import struct
import threading
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.checkpoints import (
    CARD_NAME,
    CheckpointRegistry,
    TensorInfo,
    build_card,
    describe_difference,
    read_card,
    read_tensor_table,
    verify_folder,
    verify_loadable,
)
from shared.contracts import CheckpointCard
from shared.errors import BadCheckpoint, Conflict, NotFound
from shared.store import Store


def safetensors_bytes(tensors: dict[str, list[int]], fill: int = 0) -> bytes:
    """A valid F32 safetensors file, built by the published format, not by the library."""
    header, offset = {}, 0
    for name, shape in tensors.items():
        size = 4
        for n in shape:
            size *= n
        header[name] = {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": [offset, offset + size],
        }
        offset += size
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes([fill]) * offset


def model_folder(folder: Path, fill: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "idefics3"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(safetensors_bytes({"a.weight": [2, 3], "b": [4]}, fill))
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> CheckpointRegistry:
    return CheckpointRegistry(Store((tmp_path / "store").as_uri()), "student")


def publish(registry: CheckpointRegistry, tmp_path: Path, version: str, fill: int) -> CheckpointCard:
    folder = model_folder(tmp_path / f"made-{version}", fill)
    card = build_card(folder, version=version, student="student", base="base")
    registry.publish(folder, card)
    return card


class TestFolder:
    def test_card_of_a_sound_folder_verifies_and_gives_the_tensors(self, tmp_path: Path) -> None:
        folder = model_folder(tmp_path / "m")
        card = build_card(folder, version="v1", student="student")
        assert verify_folder(folder, card) == {
            "a.weight": TensorInfo("F32", (2, 3)),
            "b": TensorInfo("F32", (4,)),
        }

    def test_the_card_is_not_part_of_its_own_digest(self, tmp_path: Path) -> None:
        folder = model_folder(tmp_path / "m")
        before = build_card(folder, version="v1", student="student").digest
        (folder / CARD_NAME).write_text("{}")
        assert build_card(folder, version="v1", student="student").digest == before

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "x.PTH", "state.pkl", "last.ckpt"])
    def test_pickles_are_refused(self, tmp_path: Path, name: str) -> None:
        folder = model_folder(tmp_path / "m")
        card = build_card(folder, version="v1", student="student")
        (folder / name).write_bytes(b"\x80\x04.")
        with pytest.raises(BadCheckpoint, match="pickle"):
            verify_folder(folder, card)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        folder = model_folder(tmp_path / "m")
        card = build_card(folder, version="v1", student="student")
        (folder / "tokenizer.json").unlink()
        with pytest.raises(BadCheckpoint, match=r"tokenizer\.json is missing"):
            verify_folder(folder, card)

    def test_a_changed_byte_is_found(self, tmp_path: Path) -> None:
        folder = model_folder(tmp_path / "m")
        card = build_card(folder, version="v1", student="student")
        data = bytearray((folder / "model.safetensors").read_bytes())
        data[-1] ^= 1
        (folder / "model.safetensors").write_bytes(data)
        with pytest.raises(BadCheckpoint, match="sha256"):
            verify_folder(folder, card)

    def test_an_unlisted_file_is_refused(self, tmp_path: Path) -> None:
        folder = model_folder(tmp_path / "m")
        card = build_card(folder, version="v1", student="student")
        (folder / "modeling_evil.py").write_text("print('hi')")
        with pytest.raises(BadCheckpoint, match="not listed"):
            verify_folder(folder, card)

    def test_a_card_that_points_outside_is_refused(self, tmp_path: Path) -> None:
        folder = model_folder(tmp_path / "m")
        card = build_card(folder, version="v1", student="student")
        files = [card.files[0].model_copy(update={"name": "../secret"})]
        with pytest.raises(BadCheckpoint, match="outside"):
            verify_folder(folder, card.model_copy(update={"files": files}))

    def test_no_config(self, tmp_path: Path) -> None:
        folder = model_folder(tmp_path / "m")
        (folder / "config.json").unlink()
        with pytest.raises(BadCheckpoint, match=r"no config\.json"):
            verify_loadable(folder)

    def test_config_that_is_not_json(self, tmp_path: Path) -> None:
        folder = model_folder(tmp_path / "m")
        (folder / "config.json").write_text("{")
        with pytest.raises(BadCheckpoint, match="not valid JSON"):
            verify_loadable(folder)

    def test_an_unparsable_card(self, tmp_path: Path) -> None:
        folder = model_folder(tmp_path / "m")
        (folder / CARD_NAME).write_text('{"version": 3}')
        with pytest.raises(BadCheckpoint, match=r"mpa_card\.json"):
            read_card(folder)

    def test_a_folder_that_does_not_exist(self, tmp_path: Path) -> None:
        with pytest.raises(BadCheckpoint, match="not a folder"):
            verify_loadable(tmp_path / "nothing")

    def test_a_missing_shard_of_an_index(self, tmp_path: Path) -> None:
        folder = model_folder(tmp_path / "m")
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"b": "model.safetensors", "c": "model-2.safetensors"}})
        )
        with pytest.raises(BadCheckpoint, match=r"model-2\.safetensors is missing"):
            read_tensor_table(folder)

    @given(cut=st.integers(min_value=0, max_value=10_000))
    @settings(max_examples=60)
    def test_any_truncation_of_the_weights_is_found(self, tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
        folder = model_folder(tmp_path_factory.mktemp("cut"))
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[: cut % len(data)])
        with pytest.raises(BadCheckpoint):
            read_tensor_table(folder)

    @given(garbage=st.binary(max_size=200))
    @example(garbage=b"{}")
    @settings(max_examples=100)
    def test_garbage_never_raises_anything_else(self, tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
        folder = model_folder(tmp_path_factory.mktemp("garbage"))
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(garbage)) + garbage)
        with pytest.raises(BadCheckpoint):
            read_tensor_table(folder)

    def test_differences_are_described(self) -> None:
        base = {"a": TensorInfo("F32", (2,)), "b": TensorInfo("BF16", (3,))}
        assert describe_difference(base, dict(base)) is None
        assert "missing" in str(describe_difference(base, {"a": base["a"]}))
        assert "unknown" in str(describe_difference({"a": base["a"]}, base))
        assert "shape [4]" in str(describe_difference(base, {**base, "a": TensorInfo("F32", (4,))}))
        assert "dtype F32 instead of BF16" in str(describe_difference(base, {**base, "b": TensorInfo("F32", (3,))}))


class TestRegistry:
    def test_the_base_is_registered_once_and_becomes_active(self, registry: CheckpointRegistry, tmp_path: Path) -> None:
        folder = model_folder(tmp_path / "base")
        assert registry.register_base(folder) == "base"
        assert registry.register_base(folder) == "base"
        assert registry.active().version == "base"
        assert registry.active().generation == 0
        verify_folder(registry.local("base"), registry.card("base"))

    def test_base_leaves_pickles_and_exports_behind(self, registry: CheckpointRegistry, tmp_path: Path) -> None:
        folder = model_folder(tmp_path / "hub")
        (folder / "pytorch_model.bin").write_bytes(b"\x80")
        (folder / "onnx").mkdir()
        (folder / "onnx" / "model.json").write_text("{}")
        registry.register_base(folder)
        names = [file.name for file in registry.card("base").files]
        assert names == ["config.json", "model.safetensors", "tokenizer.json"]

    def test_another_configured_model_gets_its_own_name_and_takes_nothing_over(
        self, registry: CheckpointRegistry, tmp_path: Path
    ) -> None:
        registry.register_base(model_folder(tmp_path / "one", 1))
        version = registry.register_base(model_folder(tmp_path / "two", 2))
        assert version.startswith("base-")
        assert registry.active().version == "base"
        assert registry.versions() == ["base", version]

    def test_publishing_again_changes_nothing_and_other_content_is_refused(
        self, registry: CheckpointRegistry, tmp_path: Path
    ) -> None:
        card = publish(registry, tmp_path, "job-1", 1)
        publish(registry, tmp_path, "job-1", 1)
        assert registry.card("job-1").created_at == card.created_at
        with pytest.raises(Conflict, match="other content"):
            publish(registry, tmp_path, "job-1", 2)

    def test_a_version_without_a_valid_card_is_not_listed(self, registry: CheckpointRegistry, tmp_path: Path) -> None:
        publish(registry, tmp_path, "job-1", 1)
        model_folder(tmp_path / "store" / "checkpoints" / "student" / "half")
        broken = model_folder(tmp_path / "store" / "checkpoints" / "student" / "broken")
        (broken / CARD_NAME).write_text("{}")
        assert registry.versions() == ["job-1"]
        with pytest.raises(NotFound, match="job-1"):
            registry.set_active("half", "me")
        with pytest.raises(BadCheckpoint):
            registry.card("broken")

    def test_rollback_walks_back(self, registry: CheckpointRegistry, tmp_path: Path) -> None:
        registry.register_base(model_folder(tmp_path / "base"))
        publish(registry, tmp_path, "job-1", 1)
        publish(registry, tmp_path, "job-2", 2)
        registry.set_active("job-1", "me")
        registry.set_active("job-2", "me")
        assert registry.rollback("me").version == "job-1"
        assert registry.rollback("me").version == "base"
        with pytest.raises(Conflict, match="roll back"):
            registry.rollback("me")
        assert registry.active().generation == 4

    def test_promoting_what_is_active_keeps_the_way_back(self, registry: CheckpointRegistry, tmp_path: Path) -> None:
        registry.register_base(model_folder(tmp_path / "base"))
        publish(registry, tmp_path, "job-1", 1)
        first = registry.set_active("job-1", "job 1")
        assert registry.set_active("job-1", "job 1 again") == first
        assert first.previous == "base"

    def test_a_crash_before_the_copy_loses_no_promotion(self, registry: CheckpointRegistry, tmp_path: Path) -> None:
        registry.register_base(model_folder(tmp_path / "base"))
        publish(registry, tmp_path, "job-1", 1)
        pointer_file = tmp_path / "store" / "checkpoints" / "student" / "active.json"
        old = pointer_file.read_bytes()
        registry.set_active("job-1", "me")
        for content in (old, b"", b"{"):
            pointer_file.write_bytes(content)
            assert registry.active().version == "job-1"

    def test_concurrent_promotions_are_all_kept_in_order(self, registry: CheckpointRegistry, tmp_path: Path) -> None:
        registry.register_base(model_folder(tmp_path / "base"))
        names = [f"job-{i}" for i in range(8)]
        for i, name in enumerate(names):
            publish(registry, tmp_path, name, i)
        threads = [threading.Thread(target=registry.set_active, args=(name, "me")) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert registry.active().generation == 8
        seen = [registry.active().version]
        for _ in range(8):
            seen.append(registry.rollback("me").version)
        assert sorted(seen) == sorted([*names, "base"])

    def test_listing_shows_lineage(self, registry: CheckpointRegistry, tmp_path: Path) -> None:
        registry.register_base(model_folder(tmp_path / "base"))
        publish(registry, tmp_path, "job-1", 1)
        registry.set_active("job-1", "me")
        listing = registry.list()
        assert (listing.active, listing.previous) == ("job-1", "base")
        assert [(c.version, c.active, c.base) for c in listing.checkpoints] == [
            ("base", False, None),
            ("job-1", True, "base"),
        ]

    def test_the_registry_works_on_an_object_store(self, tmp_path: Path) -> None:
        registry = CheckpointRegistry(Store(f"memory://{tmp_path.name}", tmp_path / "cache"), "student")
        registry.register_base(model_folder(tmp_path / "base"))
        publish(registry, tmp_path, "job-1", 1)
        registry.set_active("job-1", "me")
        verify_folder(registry.local("job-1"), registry.card("job-1"))
        assert registry.rollback("me").version == "base"

    @given(moves=st.lists(st.sampled_from(["a", "b", "c", "back"]), max_size=12))
    @settings(max_examples=12)
    def test_the_pointer_behaves_like_a_stack(self, tmp_path_factory: pytest.TempPathFactory, moves: list[str]) -> None:
        root = tmp_path_factory.mktemp("stack")
        registry = CheckpointRegistry(Store((root / "store").as_uri()), "student")
        registry.register_base(model_folder(root / "base"))
        for i, name in enumerate("abc"):
            publish(registry, root, name, i)
        stack = ["base"]
        for move in moves:
            if move == "back" and len(stack) == 1:
                with pytest.raises(Conflict):
                    registry.rollback("me")
            elif move == "back":
                stack.pop()
                registry.rollback("me")
            elif move != stack[-1]:
                stack.append(move)
                registry.set_active(move, "me")
            pointer = registry.active()
            assert pointer.version == stack[-1]
            assert pointer.previous == (stack[-2] if len(stack) > 1 else None)
