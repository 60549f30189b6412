"""Overwriting weights: the new checkpoint answers as if freshly loaded, and a bad one leaves the old one as it was."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from services.student.engines import checkpoint
from services.student.engines.base import WeightsLost
from services.student.engines.transformers import weights
from services.student.engines.transformers.engine import TransformersEngine
from shared.contracts import SmokeAnswer
from shared.errors import BadCheckpoint, Unavailable
from shared.settings import StudentSettings
from shared.vlm.loading import load_model
from tests.services.student.asking import GREEDY, fresh, question, said
from tests.tiny_models import build_tiny_idefics3, build_tiny_llava


@pytest.fixture
def settings(tmp_path: Path) -> StudentSettings:
    return StudentSettings(data_dir=tmp_path, student_swap="in_place", student_max_wait=timedelta(milliseconds=1))


@pytest.mark.parametrize("build", [build_tiny_idefics3, build_tiny_llava])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_weight_is_what_the_files_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Callable[..., Path], dtype: str
) -> None:
    """Also where a tensor comes in many chunks, the last of them short."""
    monkeypatch.setattr(checkpoint, "CHUNK_BYTES", 1000)
    old, new = build(tmp_path / "old", seed=0), build(tmp_path / "new", seed=1)
    model = load_model(old, dtype=dtype).model
    expected = load_model(new, dtype=dtype).model.state_dict()
    weights.check_fits(model, old, new)
    weights.overwrite(model, new)
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


async def test_a_swap_answers_as_a_fresh_load_and_goes_back(settings: StudentSettings, base: Path, other: Path) -> None:
    truth = {"base": await fresh(settings, base), "job-b": await fresh(settings, other)}
    engine = await TransformersEngine.start(settings, "base", base, None)
    model = engine._model.serving.loaded.model
    for version, folder in (("job-b", other), ("base", base), ("job-b", other)):
        await engine.swap(version, folder, None)
        assert await said(engine) == (version, truth[version])
    assert engine._model.serving.loaded.model is model
    assert not await engine.switch_back("base"), "only the serving weights are in memory"
    await engine.close()


def spoil(folder: Path, to: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    shutil.copytree(folder, to)
    tensors = load_file(to / "model.safetensors")
    change(tensors)
    save_file(tensors, to / "model.safetensors", metadata={"format": "pt"})
    return to


def with_nan(tensors: dict[str, Any]) -> None:
    list(tensors.values())[-1].view(-1)[-1] = torch.nan


def without_one(tensors: dict[str, Any]) -> None:
    tensors.pop(sorted(tensors)[0])


def with_another(tensors: dict[str, Any]) -> None:
    tensors["adapter.weight"] = torch.zeros(2)


def with_another_shape(tensors: dict[str, Any]) -> None:
    name = sorted(tensors)[0]
    tensors[name] = torch.zeros(3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_nan, "NaN or infinite"),
        (without_one, "is missing from it"),
        (with_another, r"adapter.weight is unknown to the model"),
        (with_another_shape, "but the model needs"),
    ],
)
async def test_weights_that_do_not_fit_are_refused_untouched(
    settings: StudentSettings, base: Path, other: Path, tmp_path: Path, change: Any, words: str
) -> None:
    engine = await TransformersEngine.start(settings, "base", base, None)
    before = await said(engine)
    with pytest.raises(BadCheckpoint, match=words):
        await engine.swap("bad", spoil(other, tmp_path / "bad", change), None)
    assert await said(engine) == before
    await engine.close()


async def test_a_value_too_large_for_the_serving_dtype_is_refused(
    settings: StudentSettings, base: Path, other: Path, tmp_path: Path
) -> None:
    def with_large(tensors: dict[str, Any]) -> None:
        list(tensors.values())[-1].view(-1)[-1] = 1e6  # float16 ends at 65504

    half = settings.model_copy(update={"student_dtype": "float16"})
    engine = await TransformersEngine.start(half, "base", base, None)
    with pytest.raises(BadCheckpoint, match="NaN or infinite"):
        await engine.swap("bad", spoil(other, tmp_path / "bad", with_large), None)
    assert (await said(engine))[0] == "base"
    await engine.close()


async def test_another_configuration_is_refused_though_its_shapes_fit(
    settings: StudentSettings, base: Path, other: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(other, tmp_path / "bent")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["rms_norm_eps"] = 0.5
    (folder / "config.json").write_text(json.dumps(config))
    engine = await TransformersEngine.start(settings, "base", base, None)
    with pytest.raises(BadCheckpoint, match=r"differs from the serving one's in text_config.*double_buffer"):
        await engine.swap("bent", folder, None)
    assert engine.version == "base"
    await engine.close()


async def test_a_wrong_smoke_answer_brings_the_old_weights_back(
    settings: StudentSettings, base: Path, other: Path
) -> None:
    engine = await TransformersEngine.start(settings, "base", base, None)
    before = await said(engine)
    with pytest.raises(BadCheckpoint, match="its card says 'surely not this'"):
        await engine.swap("job-b", other, wrong_smoke())
    assert await said(engine) == before
    await engine.close()


async def test_without_old_weights_to_return_to_nothing_is_answered(
    settings: StudentSettings, base: Path, other: Path, tmp_path: Path
) -> None:
    """The new weights turn out bad when the folder of the old ones has gone."""
    folder = shutil.copytree(base, tmp_path / "base")
    engine = await TransformersEngine.start(settings, "base", folder, None)
    with pytest.raises(WeightsLost, match="restart the service"):
        await swap_with_lost_folder(engine, folder, other)
    engine._model._thread.join(30)
    assert not engine.alive
    with pytest.raises(Unavailable):
        await engine.answer(question(), [GREEDY])
    await engine.close()


async def swap_with_lost_folder(engine: TransformersEngine, folder: Path, other: Path) -> None:
    """Remove the old folder once it has been compared with the new one, before the overwriting begins."""
    call = engine._model.call

    async def after_the_check(work: Any, *, always: bool = False) -> Any:
        shutil.rmtree(folder)
        return await call(work, always=always)

    engine._model.call = after_the_check  # type: ignore[method-assign]
    await engine.swap("job-b", other, wrong_smoke())


def wrong_smoke() -> SmokeAnswer:
    buffer = io.BytesIO()
    Image.new("RGB", (96, 96), "red").save(buffer, "PNG")
    picture = base64.b64encode(buffer.getvalue()).decode()
    return SmokeAnswer(image_png_base64=picture, question="what is this?", answer="surely not this")


async def test_tensors_that_the_model_does_not_use_may_stand_in_both(
    settings: StudentSettings, base: Path, other: Path, tmp_path: Path
) -> None:
    def with_unused(tensors: dict[str, Any]) -> None:
        tensors["model.vision_model.embeddings.position_ids"] = torch.arange(9)[None]
        tensors["model.text_model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)

    old, new = (spoil(folder, tmp_path / name, with_unused) for name, folder in (("old", base), ("new", other)))
    engine = await TransformersEngine.start(settings, "base", old, None)
    await engine.swap("job-b", new, None)
    assert await said(engine) == ("job-b", await fresh(settings, other))
    await engine.close()
