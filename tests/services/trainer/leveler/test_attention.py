"""The student's attention maps in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from services.trainer.data.collator import Collator
from services.trainer.data.dataset import Sample
from services.trainer.data.encoder import Encoder
from services.trainer.leveler.attention import StudentMaps
from services.trainer.losses.attention import jensen_shannon
from shared.errors import InvalidInput
from shared.vlm.attention import image_attention, load_probe
from shared.vlm.prompting import question_prompt
from tests.services.trainer.small_set import picture


def test_training_maps_are_the_probes(tmp_path: Path, tiny_student: Path) -> None:
    """The student's differentiable map of a padded batch is what the probe measures of one prompt."""
    loaded = load_probe(tiny_student, dtype="float32", device="cpu")
    loaded.model.requires_grad_(True)
    samples = [
        Sample(f"p{n}", "image", None, "chart", question, "red", teacher_attention=tuple([1 / 16] * 16))
        for n, question in enumerate(["what colour?", "what colour is the whole of this picture?"])
    ]
    encoder = Encoder(loaded, lambda target: target.sample.question, lambda _: _open(tmp_path), cache_bytes=1 << 26)
    batch = Collator(encoder, maps=True)(samples)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "pixel_values", "pixel_attention_mask")}
    output = loaded.model(**inputs, use_cache=False, output_attentions=True)
    found = StudentMaps(loaded).of(output.attentions, inputs, batch["labels"], batch["sample"], batch["teacher_maps"])
    assert found.requires_grad
    for sample, values in zip(samples, found, strict=True):
        prompt = question_prompt(loaded, _open(tmp_path), sample.question)
        expected = image_attention(loaded, prompt, sample.answer, 4).values.flatten()
        assert torch.allclose(values, expected, atol=1e-5)


def test_the_maps_gradient_survives_gradient_checkpointing(tmp_path: Path, tiny_student: Path) -> None:
    teacher = torch.rand(1, 16, generator=torch.Generator().manual_seed(0)).softmax(-1)
    sample = Sample("p", "image", None, "chart", "what?", "red", teacher_attention=tuple(teacher[0].tolist()))

    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        loaded = load_probe(tiny_student, dtype="float32", device="cpu")
        loaded.model.requires_grad_(True).train()
        if checkpointing:
            loaded.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        encoder = Encoder(loaded, lambda target: target.sample.question, lambda _: _open(tmp_path), cache_bytes=1 << 26)
        batch = Collator(encoder, maps=True)([sample])
        labels, row, stored = (batch.pop(name) for name in ("labels", "sample", "teacher_maps"))
        inputs = {name: batch[name] for name in batch if name not in ("is_replay", "weights", "kind")}
        output = loaded.model(**inputs, use_cache=False, output_attentions=True)
        found = StudentMaps(loaded).of(output.attentions, inputs, labels, row, stored)
        jensen_shannon(stored, found).sum().backward()
        return {name: p.grad for name, p in loaded.model.named_parameters() if p.grad is not None}

    plain, frugal = gradients(checkpointing=False), gradients(checkpointing=True)
    assert plain.keys() == frugal.keys()
    assert any("self_attn" in name and value.abs().max() > 0 for name, value in plain.items())
    assert all(torch.allclose(value, frugal[name]) for name, value in plain.items())


@pytest.mark.parametrize("attentions", [None, (), (None, None)])
def test_a_family_that_shows_no_attention_weights_is_refused(tiny_student: Path, attentions: Any) -> None:
    maps = StudentMaps(load_probe(tiny_student, dtype="float32", device="cpu"))
    ids = torch.zeros(1, 3, dtype=torch.long)
    with pytest.raises(InvalidInput, match=r"cannot be trained with train\.loss\.attention"):
        maps.of(attentions, {"input_ids": ids}, ids, torch.zeros(1, dtype=torch.long), torch.full((1, 16), 1 / 16))


def _open(folder: Path) -> Any:
    from PIL import Image

    return Image.open(picture(folder / "more", "red", 7)).convert("RGB")


SIZES = ((96, 96), (100, 40), (30, 70))


GRID = 4


@pytest.mark.slow
def test_maps_of_padded_batches_are_the_probes(base: Path) -> None:
    loaded = load_probe(base, dtype="float32", device="cpu")
    pictures = {str(size): Image.linear_gradient("L").resize(size).convert("RGB") for size in SIZES}
    samples = [
        Sample(
            name, name, None, "chart", "what colour? " * (number + 1), "red", teacher_attention=(1 / GRID**2,) * GRID**2
        )
        for number, name in enumerate(pictures)
    ]
    encoder = Encoder(
        loaded, lambda target: target.sample.question, lambda sample: pictures[sample.image], cache_bytes=1 << 26
    )
    batch = Collator(encoder, maps=True)(samples)
    labels, row, stored = (batch.pop(name) for name in ("labels", "sample", "teacher_maps"))
    inputs = {name: value for name, value in batch.items() if name not in ("is_replay", "weights", "kind")}
    with torch.no_grad():
        output = loaded.model(**inputs, use_cache=False, output_attentions=True)
    found = StudentMaps(loaded).of(output.attentions, inputs, labels, row, stored)
    for sample, values in zip(samples, found, strict=True):
        prompt = question_prompt(loaded, pictures[sample.image], sample.question)
        expected = image_attention(loaded, prompt, sample.answer, GRID).values.flatten()
        assert torch.allclose(values, expected, atol=1e-5)
