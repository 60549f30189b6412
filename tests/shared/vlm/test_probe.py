from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from shared.errors import BadCheckpoint
from shared.vlm.probe import AttentionProbe
from tests.polling import async_wait_until
from tests.tiny_models import build_tiny_idefics3

ITEM = (Image.new("RGB", (96, 96), "white"), "what is this?", "red")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    torch.set_num_threads(1)
    return [build_tiny_idefics3(tmp_path_factory.mktemp(str(seed)), seed=seed) for seed in (1, 2)]


def probe(source: Any, idle: float = 60.0) -> AttentionProbe:
    return AttentionProbe(source, dtype="float32", device="cpu", idle=idle, torch_threads=1)


async def test_the_copy_comes_with_the_first_use_and_goes_when_idle(folders: list[Path]) -> None:
    probing = probe(lambda: ("a", folders[0]), idle=0.2)
    assert not probing.loaded
    first = await probing.measure([ITEM], 4)
    assert probing.loaded and first.version == "a" and first.layers == [0]

    async def gone() -> bool:
        return not probing.loaded

    await async_wait_until(gone)
    again = await probing.measure([ITEM], 4)
    assert torch.equal(again.maps[0].values, first.maps[0].values)
    await probing.aclose()


async def test_a_swap_is_followed(folders: list[Path]) -> None:
    serving = ["a", folders[0]]
    probing = probe(lambda: tuple(serving))
    before = await probing.measure([ITEM], 4)
    serving[:] = ["b", folders[1]]
    after = await probing.measure([ITEM], 4)
    assert (before.version, after.version) == ("a", "b")
    assert not torch.equal(before.maps[0].values, after.maps[0].values)
    await probing.aclose()


async def test_requests_take_turns_and_a_wrong_one_harms_no_other(folders: list[Path]) -> None:
    def source() -> tuple[str, Path]:
        return "a", folders[0]

    probing = probe(source)
    long = (ITEM[0], "what is this? " * 10, "red")
    results = await asyncio.gather(*(probing.measure([item], 4) for item in (ITEM, long, ITEM)))
    assert torch.equal(results[0].maps[0].values, results[2].maps[0].values)
    await probing.aclose()


async def test_a_folder_that_does_not_load_is_named(tmp_path: Path) -> None:
    probing = probe(lambda: ("a", tmp_path))
    with pytest.raises(BadCheckpoint, match=str(tmp_path)):
        await probing.measure([ITEM], 4)
    assert not probing.loaded
    await probing.aclose()
