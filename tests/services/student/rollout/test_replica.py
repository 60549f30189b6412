"""Checkpoints are swapped under load, refused with a reason, rolled back, and followed."""

from __future__ import annotations

import asyncio
import base64
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from demo.training.architecture import Size
from shared.checkpoints import CheckpointRegistry
from shared.contracts import SmokeAnswer
from shared.errors import UpstreamError
from shared.settings import StudentSettings
from tests.services.student.small_replica import QUESTION, answer_of, png, publish, running
from tests.tiny_models import build_tiny_idefics3


async def test_swaps_under_load_drop_and_mix_nothing(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    async with running(settings) as (client, _):
        publish(registry, other, "job-b")
        truth = {"base": await answer_of(client)}
        await client.activate("job-b", by="test")
        truth["job-b"] = await answer_of(client)
        assert truth["base"][1] != truth["job-b"][1]
        seen: list[tuple[str, str]] = []
        stop = asyncio.Event()

        async def keep_asking() -> None:
            while not stop.is_set():
                seen.append(await answer_of(client))

        askers = [asyncio.create_task(keep_asking()) for _ in range(8)]
        for version in ("base", "job-b", "base", "job-b"):
            before = len(seen)
            result = await client.activate(version, by="test")
            assert (result.version, result.changed) == (version, True)
            async with asyncio.timeout(20):
                while len(seen) < before + 12:
                    await asyncio.sleep(0.005)
        stop.set()
        await asyncio.gather(*askers)
    assert {version for version, _ in seen} == {"base", "job-b"}
    assert [answer for answer in seen if answer != truth[answer[0]]] == []


async def test_swap_is_idempotent_and_concurrent_swaps_are_serialised(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    async with running(settings) as (client, _):
        publish(registry, other, "job-b")
        first = await client.activate("job-b", by="test")
        second = await client.activate("job-b", by="test")
        assert (first.changed, first.previous, second.changed) == (True, "base", False)
        await asyncio.gather(*(client.activate(v, by="test") for v in ("base", "job-b") * 3))
        found = await client.checkpoints()
        assert found.active == (await answer_of(client))[0]


async def test_rollback_returns_to_what_served_before(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    async with running(settings) as (client, _):
        with pytest.raises(UpstreamError, match="no version before base"):
            await client.rollback()
        publish(registry, other, "job-b")
        await client.activate("job-b", by="test")
        assert (await client.rollback()).version == "base"
        assert (await answer_of(client))[0] == "base"
        assert (await client.checkpoints()).active == "base"


async def test_an_unknown_version_is_not_found(settings: StudentSettings) -> None:
    async with running(settings) as (client, _):
        with pytest.raises(UpstreamError) as caught:
            await client.activate("job-none", by="test")
        assert caught.value.upstream_status == 404


def nan_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[sorted(weights)[0]].view(-1)[0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


async def refused(settings: StudentSettings, version: str, words: str) -> None:
    """The version is refused with ``words`` while the base goes on serving the same answers."""
    async with running(settings) as (client, _):
        before = await answer_of(client)
        with pytest.raises(UpstreamError, match=words) as caught:
            await client.activate(version, by="test")
        assert caught.value.upstream_status == 422
        assert await answer_of(client) == before == ("base", before[1])
        assert (await client.checkpoints()).active == "base"
        assert (await client.health()).ready


async def test_nan_weights_are_refused(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(other, tmp_path / "nan"))
    nan_weights(folder)
    publish(registry, folder, "job-nan")
    await refused(settings, "job-nan", "NaN")


async def test_another_architecture_is_refused(
    settings: StudentSettings, registry: CheckpointRegistry, tmp_path: Path
) -> None:
    wide = build_tiny_idefics3(tmp_path / "wide", size=Size(128, 1, 2, 128, 64, 1, 1, 128))
    publish(registry, wide, "job-wide")
    await refused(settings, "job-wide", "another shape")


async def test_a_wrong_smoke_answer_is_refused(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    smoke = SmokeAnswer(question=QUESTION, answer="never this", image_png_base64=base64.b64encode(png()).decode())
    publish(registry, other, "job-smoke", smoke)
    await refused(settings, "job-smoke", "never this")


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed", "pickle"])
async def test_damaged_files_are_refused(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path, damage: str
) -> None:
    publish(registry, other, "job-bad")
    folder = registry.local("job-bad")
    weights = folder / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "changed":
        data = bytearray(weights.read_bytes())
        data[-10] ^= 0xFF
        weights.write_bytes(data)
    else:
        (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    await refused(settings, "job-bad", "model.safetensors|pytorch_model.bin")


async def test_a_bad_active_version_falls_back_at_start(
    settings: StudentSettings, registry: CheckpointRegistry, base: Path, other: Path
) -> None:
    registry.register_base(base)
    publish(registry, other, "job-bad")
    registry.set_active("job-bad", "test")
    (registry.local("job-bad") / "model.safetensors").write_bytes(b"rubbish")
    async with running(settings) as (client, _):
        assert (await answer_of(client))[0] == "base"
        health = await client.health()
        assert health.ready
        assert "job-bad cannot serve" in health.reason


async def test_another_replicas_promotion_is_followed(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    often = settings.model_copy(update={"student_follow_every": timedelta(milliseconds=50)})
    async with running(often) as (client, _):
        publish(registry, other, "job-b")
        registry.set_active("job-b", "another replica")
        async with asyncio.timeout(20):
            while (await answer_of(client))[0] != "job-b":
                await asyncio.sleep(0.02)
