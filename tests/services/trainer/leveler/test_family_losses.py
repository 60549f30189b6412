"""Every model family trains with every term of the loss, on pictures of several sizes and shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from services.trainer.data.collator import Collator
from services.trainer.data.dataset import Sample
from services.trainer.data.encoder import Encoder
from services.trainer.leveler.attention import StudentMaps
from services.trainer.run.train import run_training
from services.trainer.run_config import read_progress
from shared.store import Store
from shared.vlm.attention import image_attention, load_probe
from shared.vlm.prompting import question_prompt
from tests.services.trainer.full_set import EVERYTHING, config_for, make_full_set
from tests.services.trainer.small_set import Counts
from tests.tiny_families import FAMILIES, seeded

pytestmark = pytest.mark.slow

SIZES = ((96, 96), (100, 40), (30, 70))
GRID = 4
ANYWHERE = (1 / GRID**2,) * GRID**2


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return seeded(request.param, tmp_path_factory.mktemp(request.param))


def test_every_term_trains(tmp_path: Path, store: Store, base: Path) -> None:
    make_full_set(store, base, tmp_path / "images", counts=Counts(4, {}, 0, sizes=SIZES))
    config = config_for(tmp_path, base, EVERYTHING, batch_size=4, max_steps=4, warmup_fraction=0.0, freeze_vision=True)
    result = run_training(config)
    lines = read_progress(config.progress_file)
    assert all(lines[0].terms[name] > 0 for name in result.loss_weights)
    assert lines[-1].loss < lines[0].loss


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
