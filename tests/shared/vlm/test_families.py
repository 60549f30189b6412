"""Every model family through the one path: tiny random models of the real classes, processors as a hub has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from services.student.engines.score_check import misalignment
from shared.errors import BadCheckpoint
from shared.vlm.attention import image_attention, load_probe
from shared.vlm.generation import Generated, generate, generate_encoded
from shared.vlm.image_features import FeatureReuse, image_digest
from shared.vlm.loading import LoadedModel, load_model, load_processor
from shared.vlm.prompting import Prompt, encode, question_prompt
from shared.vlm.sampling import Sampling
from shared.vlm.scoring import token_logprobs
from tests.scoring import score_answers
from tests.tiny_families import FAMILIES, seeded

REUSES_FEATURES = set(FAMILIES) - {"qwen3_vl"}
GREEDY = Sampling(6)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seeded(family, tmp_path_factory.mktemp(family))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(folder)


def pictures() -> list[Image.Image]:
    """Of several sizes and shapes, so that families with tiles or dynamic resolution get different numbers."""
    return [noise(size) for size in ((40, 50), (100, 40), (30, 70))]


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    return Image.frombytes("RGB", size, Random(f"{size} {seed}").randbytes(size[0] * size[1] * 3))


def prompts(loaded: LoadedModel) -> list[Prompt]:
    return [
        question_prompt(loaded, image, "what is this" + " and why" * number) for number, image in enumerate(pictures())
    ]


def ids(answer: Generated) -> list[int]:
    return [token.id for token in answer.tokens]


def logprobs(answer: Generated) -> list[float]:
    return [token.logprob for token in answer.tokens]


def test_a_batch_answers_as_each_alone_and_scores_what_it_said(loaded: LoadedModel) -> None:
    samplings = [GREEDY, Sampling(6, temperature=1.0, seed=1), Sampling(4)]
    together = generate(loaded, prompts(loaded), samplings)
    assert all(ids(answer) for answer in together)
    scored = token_logprobs(
        loaded, [encode(loaded, prompt) for prompt in prompts(loaded)], [ids(answer) for answer in together]
    )
    for prompt, sampling, answer, scores in zip(prompts(loaded), samplings, together, scored, strict=True):
        alone = generate(loaded, [prompt], [sampling])[0]
        assert alone.text == answer.text
        assert logprobs(alone) == pytest.approx(logprobs(answer), abs=1e-4)
        assert scores == pytest.approx(logprobs(answer), abs=1e-4)


def test_the_picture_counts(loaded: LoadedModel) -> None:
    scores = [
        score_answers(loaded, [question_prompt(loaded, noise((64, 64), seed), "what")], [["a dog"]])[0][0].total
        for seed in (1, 2)
    ]
    assert abs(scores[0] - scores[1]) > 1e-3


def test_scores_pass_the_engines_own_check(loaded: LoadedModel) -> None:
    assert misalignment(loaded) == ""


def test_the_library_answers_the_same(folder: Path, loaded: LoadedModel) -> None:
    """Without our collation, decoding or loading of weights: plain ``generate`` on one prompt."""
    model = AutoModelForImageTextToText.from_pretrained(folder)
    for prompt in prompts(loaded):
        inputs = loaded.processor(
            text=[prompt.text], images=[list(prompt.images)], return_tensors="pt", add_special_tokens=False
        )
        output = model.generate(**inputs, max_new_tokens=6, do_sample=False)
        said = [token for token in output[0, inputs["input_ids"].shape[1] :].tolist() if token not in loaded.eos_ids]
        assert said == ids(generate(loaded, [prompt], [GREEDY])[0])


def test_an_attention_map_is_a_distribution_that_depends_on_the_picture(folder: Path) -> None:
    probe = load_probe(folder, dtype="float32", device="cpu")
    maps = [
        image_attention(probe, question_prompt(probe, image, "where is the dog"), "on the left", 4)
        for image in pictures()
    ]
    for found in maps:
        assert found.values.shape == (4, 4)
        assert float(found.values.sum()) == pytest.approx(1, abs=1e-5)
        assert float(found.values.min()) >= 0
        assert 0 < found.image_share < 1
    assert not torch.allclose(maps[0].values, maps[1].values, atol=1e-4)


def test_kept_features_change_no_answer(family: str, loaded: LoadedModel) -> None:
    one, two, three = pictures()
    shown = [(one, "what?"), (one, "and why is that so"), (two, "where"), (three, "who")]
    batch = [
        replace(encode(loaded, question_prompt(loaded, image, text)), image_key=image_digest([image]))
        for image, text in shown
    ]
    samplings = [GREEDY] * len(batch)
    expected = generate_encoded(loaded, batch, samplings)
    reuse = FeatureReuse(1 << 24)
    for _ in range(2):
        found = generate_encoded(loaded, batch, samplings, collate=reuse.collate)
        for mine, theirs in zip(found, expected, strict=True):
            assert ids(mine) == ids(theirs)
            assert logprobs(mine) == pytest.approx(logprobs(theirs), abs=1e-4)
    assert (reuse.hits, reuse.misses) == ((5, 3) if family in REUSES_FEATURES else (0, 0))


def test_a_processor_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(BadCheckpoint, match=str(tmp_path)):
        load_processor(tmp_path)
