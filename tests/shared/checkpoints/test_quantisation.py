"""Quantised weights are known by the configuration, by names, or by dtypes, in a folder and in a store alike."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.checkpoints import CheckpointRegistry
from shared.checkpoints.quantisation import quantisation_of, read_dtypes
from shared.store import Store
from tests.shared.checkpoints.small_folder import model_folder

STORES = ["file", "memory"]
FLOATS = {"a.weight": "F32", "b.weight": "BF16", "c.weight": "F16"}
QUANTISED: list[tuple[dict[str, Any], Mapping[str, str], str]] = [
    ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, FLOATS, "quantization_config: gptq"),
    (
        {"quantization_config": {"quant_method": "compressed-tensors"}},
        FLOATS,
        "quantization_config: compressed-tensors",
    ),
    ({"quantization_config": {"load_in_4bit": True}}, FLOATS, "quantization_config"),
    ({"compression_config": {"quant_method": "fp8"}}, FLOATS, "compression_config: fp8"),
    ({"text_config": {"quantization_config": {"quant_method": "awq"}}}, FLOATS, "quantization_config: awq"),
    ({}, {**FLOATS, "a.qweight": "I32"}, "packed weights, a.qweight"),
    ({}, {**FLOATS, "a.weight_packed": "I32"}, "packed weights, a.weight_packed"),
    ({}, {**FLOATS, "d.weight": "F8_E4M3"}, "weights of dtype F8_E4M3"),
    ({}, {**FLOATS, "d.weight": "I8"}, "weights of dtype I8"),
    ({}, {**FLOATS, "d.weight": "U8", "d.weight.absmax": "F32"}, "packed weights, d.weight.absmax"),
]
WHOLE: list[tuple[dict[str, Any], Mapping[str, str]]] = [
    ({}, FLOATS),
    ({"quantization_config": None, "text_config": {"quantization_config": {}}}, FLOATS),
    ({}, {**FLOATS, "position_ids": "I64", "mask": "BOOL", "steps": "U8"}),
]


def folder_with(folder: Path, config: dict[str, Any], dtypes: Mapping[str, str]) -> Path:
    """A model folder with one-element tensors."""
    sizes = {"F32": 4, "BF16": 2, "F16": 2, "I32": 4, "F8_E4M3": 1, "I8": 1, "U8": 1, "BOOL": 1, "I64": 8}
    header, at = {}, 0
    for name, dtype in dtypes.items():
        header[name] = {"dtype": dtype, "shape": [1], "data_offsets": [at, at + sizes[dtype]]}
        at += sizes[dtype]
    raw = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    model_folder(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "idefics3", **config}))
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(at))
    return folder


def registered(url: str, folder: Path) -> CheckpointRegistry:
    registry = CheckpointRegistry(Store(url), "student")
    registry.register_base(folder)
    return registry


@pytest.fixture(params=STORES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return (tmp_path / "store").as_uri() if request.param == "file" else f"memory://{tmp_path.name}"


@pytest.mark.parametrize(("config", "dtypes", "method"), QUANTISED)
def test_quantised_weights_are_known(
    config: dict[str, Any], dtypes: Mapping[str, str], method: str, tmp_path: Path, store_url: str
) -> None:
    folder = folder_with(tmp_path / "base", config, dtypes)
    assert quantisation_of(folder) == method
    assert registered(store_url, folder).quantisation("base") == method


@pytest.mark.parametrize(("config", "dtypes"), WHOLE)
def test_others_are_not_taken_for_quantised(
    config: dict[str, Any], dtypes: Mapping[str, str], tmp_path: Path, store_url: str
) -> None:
    folder = folder_with(tmp_path / "base", config, dtypes)
    assert quantisation_of(folder) is None
    assert registered(store_url, folder).quantisation("base") is None


def test_the_file_beside_packed_weights_names_the_method(tmp_path: Path, store_url: str) -> None:
    folder = folder_with(tmp_path / "base", {}, {"a.qweight": "I32"})
    (folder / "quantize_config.json").write_text("{}")
    assert quantisation_of(folder) == "quantize_config.json, a.qweight"
    assert registered(store_url, folder).quantisation("base") == "quantize_config.json, a.qweight"


@pytest.mark.parametrize(
    "data",
    [b"", b"\x05", struct.pack("<Q", 1 << 40) + b"{}", struct.pack("<Q", 4) + b"nope", struct.pack("<Q", 2) + b"[]"],
)
def test_a_damaged_header_has_no_tensors(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    with (tmp_path / "a").open("rb") as file:
        assert read_dtypes(file) == {}
