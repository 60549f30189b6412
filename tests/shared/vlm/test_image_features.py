"""Features in place of pixels change no answer, each image is encoded once, and what is kept is bounded."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from PIL import Image

from shared.contracts import ChatMessage, ImagePart, ImageURL, TextPart
from shared.vlm.generation import Generated, generate_encoded
from shared.vlm.image_features import FeatureReuse, image_digest
from shared.vlm.loading import LoadedModel, load_model
from shared.vlm.prompting import Encoded, encode, render
from shared.vlm.sampling import Sampling
from shared.vlm.scoring import score_batch
from tests.tiny_models import build_tiny_idefics3, build_tiny_llava

ROOM = 1 << 24
SAMPLINGS = [Sampling(6), Sampling(6, temperature=1.0, seed=1), Sampling(3), Sampling(5, temperature=0.7, seed=2)]


@pytest.fixture(scope="module", params=[build_tiny_idefics3, build_tiny_llava], ids=["idefics3", "llava"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    build: Callable[[Path], Path] = request.param
    return load_model(build(tmp_path_factory.mktemp("model")))


def picture(seed: int) -> Image.Image:
    return Image.frombytes("RGB", (70, 50), Random(seed).randbytes(70 * 50 * 3))


def prompt(loaded: LoadedModel, text: str, *pictures: Image.Image) -> Encoded:
    parts = [ImagePart(type="image_url", image_url=ImageURL(url="data:,")) for _ in pictures]
    message = ChatMessage(role="user", content=[*parts, TextPart(type="text", text=text)])
    encoded = encode(loaded, render(loaded, [message], pictures))
    return replace(encoded, image_key=image_digest(pictures)) if pictures else encoded


def answers(loaded: LoadedModel, batch: Sequence[Encoded], reuse: FeatureReuse | None) -> list[Generated]:
    samplings = SAMPLINGS[: len(batch)]
    if reuse is None:
        return generate_encoded(loaded, batch, samplings)
    return generate_encoded(loaded, batch, samplings, collate=reuse.collate)


def assert_same(found: Sequence[Generated], expected: Sequence[Generated]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert [token.id for token in mine.tokens] == [token.id for token in theirs.tokens]
        assert [t.logprob for t in mine.tokens] == pytest.approx([t.logprob for t in theirs.tokens], abs=1e-4)


def test_answers_are_the_same_with_kept_features(loaded: LoadedModel) -> None:
    one, two = picture(1), picture(2)
    batch = [prompt(loaded, "what?", one), prompt(loaded, "and why is that so", one), prompt(loaded, "where", two)]
    expected = answers(loaded, batch, None)
    reuse = FeatureReuse(ROOM)
    assert_same(answers(loaded, batch, reuse), expected)
    assert (reuse.hits, reuse.misses) == (1, 2)
    assert_same(answers(loaded, batch[::-1], reuse)[::-1][:1], answers(loaded, batch[::-1], None)[::-1][:1])
    assert (reuse.hits, reuse.misses) == (4, 2)


def test_prompts_with_no_and_several_images_share_a_batch(loaded: LoadedModel) -> None:
    one, two = picture(1), picture(2)
    batch = [
        prompt(loaded, "compare", one, two),
        prompt(loaded, "who is there"),
        prompt(loaded, "what?", two),
        prompt(loaded, "the other way round", two, one),
    ]
    expected = answers(loaded, batch, None)
    reuse = FeatureReuse(ROOM)
    assert_same(answers(loaded, batch, reuse), expected)
    assert_same(answers(loaded, batch, reuse), expected)
    assert (reuse.hits, reuse.misses) == (3, 3)
    texts = [batch[1], prompt(loaded, "nothing to see")]
    assert_same(answers(loaded, texts, reuse), answers(loaded, texts, None))


def test_scores_are_the_same_with_kept_features(loaded: LoadedModel) -> None:
    pairs = [(prompt(loaded, "what?", picture(3)), answer) for answer in ("red", "two words")]
    reuse = FeatureReuse(ROOM)
    expected = score_batch(loaded, pairs)
    for found, score in zip(score_batch(loaded, pairs, collate=reuse.collate), expected, strict=True):
        assert found.logprobs == pytest.approx(score.logprobs, abs=1e-4)
    assert (reuse.hits, reuse.misses) == (1, 1)


def test_what_is_kept_is_bounded_and_the_image_used_longest_ago_goes_first(loaded: LoadedModel) -> None:
    first, second, third = (prompt(loaded, "what?", picture(n)) for n in range(3))
    probe = FeatureReuse(ROOM)
    answers(loaded, [first], probe)
    reuse = FeatureReuse(2 * probe.nbytes)
    for item in (first, second, first, third):
        answers(loaded, [item], reuse)
    assert reuse.nbytes == 2 * probe.nbytes
    assert (reuse.hits, reuse.misses) == (1, 3)
    answers(loaded, [first], reuse)
    assert (reuse.hits, reuse.misses) == (2, 3)
    answers(loaded, [second], reuse)
    assert (reuse.hits, reuse.misses) == (2, 4)
    reuse.clear()
    assert reuse.nbytes == 0
    answers(loaded, [second], reuse)
    assert reuse.misses == 5


def test_features_larger_than_the_bound_are_used_but_not_kept(loaded: LoadedModel) -> None:
    item = prompt(loaded, "what?", picture(1))
    reuse = FeatureReuse(8)
    assert_same(answers(loaded, [item], reuse), answers(loaded, [item], None))
    assert (reuse.nbytes, reuse.misses) == (0, 1)


def test_an_image_without_a_key_is_encoded_as_before(loaded: LoadedModel) -> None:
    item = replace(prompt(loaded, "what?", picture(1)), image_key="")
    reuse = FeatureReuse(ROOM)
    assert_same(answers(loaded, [item], reuse), answers(loaded, [item], None))
    assert (reuse.hits, reuse.misses, reuse.nbytes) == (0, 0, 0)


def test_features_that_cannot_be_told_apart_by_image_leave_pixels_in_place(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some families pool all images into one row of tokens, or add features to inner layers."""
    batch = [prompt(loaded, "what?", picture(1)), prompt(loaded, "where", picture(2))]
    expected = answers(loaded, batch, None)
    inner = loaded.model.base_model
    compute = inner.get_image_features

    @functools.wraps(compute)
    def flattened(*args: Any, **kwargs: Any) -> Any:
        output = compute(*args, **kwargs)
        output.pooler_output = output.pooler_output.flatten(0, 1)
        return output

    monkeypatch.setattr(inner, "get_image_features", flattened)
    item = prompt(loaded, "what?", picture(1))
    reuse = FeatureReuse(ROOM)
    assert reuse.collate(loaded, [item]).keys() == item.features.keys()
    monkeypatch.undo()
    assert_same(answers(loaded, batch, reuse), expected)
    assert (reuse.hits, reuse.misses) == (0, 0)


def test_a_family_whose_features_need_more_than_a_prompt_gives_keeps_its_pixels(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = prompt(loaded, "what?", picture(1))

    def demanding(pixel_values: torch.Tensor, *, camera: str) -> None:
        raise AssertionError(camera)

    monkeypatch.setattr(loaded.model.base_model, "get_image_features", demanding)
    reuse = FeatureReuse(ROOM)
    assert reuse.collate(loaded, [item]).keys() == item.features.keys()


def test_a_failure_after_a_success_is_the_requests_own(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = prompt(loaded, "what?", picture(1)), prompt(loaded, "what?", picture(2))
    reuse = FeatureReuse(ROOM)
    answers(loaded, [good], reuse)
    broken = replace(bad, features={**bad.features, "pixel_values": bad.features["pixel_values"][..., :1]})
    with pytest.raises((RuntimeError, ValueError)):
        answers(loaded, [broken], reuse)
    answers(loaded, [good], reuse)
    assert (reuse.hits, reuse.misses) == (1, 1)


def test_digests_tell_pixels_sizes_and_order_apart() -> None:
    one, two = picture(1), picture(2)
    wide = Image.frombytes("RGB", (100, 35), one.tobytes())
    digests = {image_digest(images) for images in ([one], [two], [wide], [one, two], [two, one])}
    assert len(digests) == 5
    assert image_digest([one]) == image_digest([one.copy()])
