"""The files of a checkpoint: what is missing, changed, unlisted or damaged is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.checkpoints import (
    CARD_NAME,
    TensorInfo,
    build_card,
    read_card,
    verify_folder,
    verify_loadable,
)
from shared.errors import BadCheckpoint
from tests.shared.checkpoints.small_folder import model_folder


def test_card_of_a_sound_folder_verifies_and_gives_the_tensors(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    card = build_card(folder, version="v1", student="student")
    assert verify_folder(folder, card) == {
        "a.weight": TensorInfo("F32", (2, 3)),
        "b": TensorInfo("F32", (4,)),
    }


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "x.PTH", "state.pkl", "last.ckpt"])
def test_pickles_are_refused(tmp_path: Path, name: str) -> None:
    folder = model_folder(tmp_path / "m")
    card = build_card(folder, version="v1", student="student")
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(BadCheckpoint, match="pickle"):
        verify_folder(folder, card)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    card = build_card(folder, version="v1", student="student")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.json is missing"):
        verify_folder(folder, card)


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    card = build_card(folder, version="v1", student="student")
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(BadCheckpoint, match="sha256"):
        verify_folder(folder, card)


def test_an_unlisted_file_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    card = build_card(folder, version="v1", student="student")
    (folder / "modeling_evil.py").write_text("print('hi')")
    with pytest.raises(BadCheckpoint, match="not listed"):
        verify_folder(folder, card)


def test_a_card_that_points_outside_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    card = build_card(folder, version="v1", student="student")
    files = [card.files[0].model_copy(update={"name": "../secret"})]
    with pytest.raises(BadCheckpoint, match="outside"):
        verify_folder(folder, card.model_copy(update={"files": files}))


def test_no_config(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "config.json").unlink()
    with pytest.raises(BadCheckpoint, match=r"no config\.json"):
        verify_loadable(folder)


def test_config_that_is_not_json(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "config.json").write_text("{")
    with pytest.raises(BadCheckpoint, match="not valid JSON"):
        verify_loadable(folder)


def test_an_unparsable_card(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / CARD_NAME).write_text('{"version": 3}')
    with pytest.raises(BadCheckpoint, match=r"mpa_card\.json"):
        read_card(folder)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="not a folder"):
        verify_loadable(tmp_path / "nothing")
