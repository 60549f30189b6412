"""Which files hold a checkpoint's weights, and what their headers say; damage is found."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.checkpoints import TensorInfo, describe_difference, read_tensor_table
from shared.checkpoints.weights import index_file, weight_files
from shared.errors import BadCheckpoint
from tests.shared.checkpoints.small_folder import model_folder, safetensors_bytes

OTHERS = ("consolidated.safetensors", "model.fp16.safetensors", "adapter_model.safetensors", "original/x.safetensors")


def sharded(folder: Path) -> Path:
    """The small folder in two weight files with an index."""
    model_folder(folder)
    (folder / "model.safetensors").unlink()
    (folder / "part-1.safetensors").write_bytes(safetensors_bytes({"a.weight": [2, 3]}))
    (folder / "part-2.safetensors").write_bytes(safetensors_bytes({"b": [4]}))
    named = {"a.weight": "part-1.safetensors", "b": "part-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))
    return folder


@pytest.mark.parametrize("make", [model_folder, sharded])
@pytest.mark.parametrize("other", OTHERS)
def test_other_weights_beside_those_that_are_loaded_are_ignored(tmp_path: Path, make: object, other: str) -> None:
    folder = make(tmp_path / "m")  # type: ignore[operator]
    loaded = weight_files(folder)
    (folder / other).parent.mkdir(exist_ok=True)
    (folder / other).write_bytes(safetensors_bytes({"a.weight": [9], "other": [1]}))
    assert weight_files(folder) == loaded
    assert read_tensor_table(folder) == {"a.weight": TensorInfo("F32", (2, 3)), "b": TensorInfo("F32", (4,))}


def test_one_file_wins_over_a_leftover_index(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "m")
    assert index_file(folder) == folder / "model.safetensors.index.json"
    (folder / "model.safetensors").write_bytes(safetensors_bytes({"c": [1]}))
    assert weight_files(folder) == [folder / "model.safetensors"] and index_file(folder) is None


@pytest.mark.parametrize("name", ["weights.safetensors", "other.safetensors.index.json"])
def test_the_configuration_may_name_the_weights(tmp_path: Path, name: str) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps({"transformers_weights": name}))
    with pytest.raises(BadCheckpoint, match="transformers_weights"):
        weight_files(folder)
    (folder / "weights.safetensors").write_bytes(safetensors_bytes({"c": [1]}))
    (folder / name).touch()
    if name.endswith("json"):
        (folder / name).write_text(json.dumps({"weight_map": {"c": "weights.safetensors"}}))
    assert weight_files(folder) == [folder / "weights.safetensors"]


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "pytorch_model.bin", 3, ""])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: object) -> None:
    folder = model_folder(tmp_path / "m")
    (tmp_path / "outside.safetensors").write_bytes(safetensors_bytes({"c": [1]}))
    (folder / "pytorch_model.bin").touch()
    (folder / "config.json").write_text(json.dumps({"transformers_weights": name}))
    with pytest.raises(BadCheckpoint):
        weight_files(folder)


def test_only_weights_that_the_library_would_not_load(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    with pytest.raises(BadCheckpoint, match=r"no model\.safetensors .*consolidated\.safetensors"):
        weight_files(folder)


def test_links_to_files_elsewhere_are_followed_and_broken_ones_are_named(tmp_path: Path) -> None:
    """A snapshot in the hub's cache holds links to blobs."""
    folder = sharded(tmp_path / "m")
    blob = tmp_path / "blob"
    (folder / "part-1.safetensors").rename(blob)
    (folder / "part-1.safetensors").symlink_to(blob)
    assert len(read_tensor_table(folder)) == 2
    blob.unlink()
    with pytest.raises(BadCheckpoint, match=r"part-1\.safetensors is missing"):
        read_tensor_table(folder)


def test_one_weight_file_stands_for_itself(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(safetensors_bytes({"c": [1]}))
    assert read_tensor_table(tmp_path / "adapter_model.safetensors") == {"c": TensorInfo("F32", (1,))}


def test_a_missing_shard_of_an_index(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"b": "model.safetensors", "c": "model-2.safetensors"}})
    )
    with pytest.raises(BadCheckpoint, match=r"model-2\.safetensors is missing"):
        read_tensor_table(folder)


@given(cut=st.integers(min_value=0, max_value=10_000))
@settings(max_examples=60)
def test_any_truncation_of_the_weights_is_found(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = model_folder(tmp_path_factory.mktemp("cut"))
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: cut % len(data)])
    with pytest.raises(BadCheckpoint):
        read_tensor_table(folder)


@given(garbage=st.binary(max_size=200))
@example(garbage=b"{}")
@settings(max_examples=100)
def test_garbage_never_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    folder = model_folder(tmp_path_factory.mktemp("garbage"))
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(garbage)) + garbage)
    with pytest.raises(BadCheckpoint):
        read_tensor_table(folder)


def test_differences_are_described() -> None:
    base = {"a": TensorInfo("F32", (2,)), "b": TensorInfo("BF16", (3,))}
    assert describe_difference(base, dict(base)) is None
    assert "missing" in str(describe_difference(base, {"a": base["a"]}))
    assert "unknown" in str(describe_difference({"a": base["a"]}, base))
    assert "shape [4]" in str(describe_difference(base, {**base, "a": TensorInfo("F32", (4,))}))
    assert "dtype F32 instead of BF16" in str(describe_difference(base, {**base, "b": TensorInfo("F32", (3,))}))
