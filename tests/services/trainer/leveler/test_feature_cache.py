"""Image features in memory and in files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.trainer.leveler.feature_cache import FeatureShelf


def block(*keys: str) -> dict[str, torch.Tensor]:
    return {key: torch.full((1, 4, 8), float(len(key))) for key in keys}


def test_what_fits_stays_in_memory(tmp_path: Path) -> None:
    shelf = FeatureShelf(tmp_path / "features", 1000)
    shelf.put(block("/a.png", "/bb.png"))
    assert shelf.files == 0
    assert not (tmp_path / "features").exists()
    assert torch.equal(shelf["/bb.png"], block("/bb.png")["/bb.png"])


def test_what_does_not_is_filed_and_read_back_the_same(tmp_path: Path) -> None:
    shelf = FeatureShelf(tmp_path / "features", 300)
    first, second, third = block("/a", "/b b"), block("s3://x/ccc.png"), block("/dddd")
    for features in (first, second, third):
        shelf.put(features)
    assert shelf.files == 2
    assert sorted(shelf) == sorted([*first, *second, *third])
    for key, tensor in {**first, **second, **third}.items():
        assert torch.equal(shelf[key], tensor)
    with pytest.raises(KeyError):
        shelf["/nothing"]


def test_processes_find_what_the_others_filed(tmp_path: Path) -> None:
    shelves = [FeatureShelf(tmp_path / "features", 0, writer=number) for number in range(2)]
    shelves[0].put(block("/a"))
    shelves[1].put(block("/bb"))
    for shelf in shelves:
        shelf.find_all()
        assert set(shelf) == {"/a", "/bb"}
        assert torch.equal(shelf["/bb"], block("/bb")["/bb"])
    shelves[0].clear()
    assert torch.equal(shelves[1]["/a"], block("/a")["/a"])
