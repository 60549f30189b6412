"""Generation and scoring on a real (tiny, random) model: batches change nothing, log-probabilities are a forward
pass's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from shared.contracts import ChatMessage, ImagePart, ImageURL, TextPart
from shared.errors import BadCheckpoint, InvalidInput
from shared.vlm.generation import generate
from shared.vlm.loading import LoadedModel, load_model
from shared.vlm.prompting import Prompt, collate, encode, question_prompt, render
from shared.vlm.sampling import Sampling
from shared.vlm.scoring import score_answers
from tests.tiny_models import build_tiny_idefics3

GREEDY = Sampling(max_tokens=6)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(build_tiny_idefics3(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def prompts(loaded: LoadedModel) -> list[Prompt]:
    images = [Image.effect_noise((90 + 20 * n, 96), 60 + n).convert("RGB") for n in range(4)]
    texts = ["what is this?", "how much is A?", "what color is the sign at the top of the picture?", "why?"]
    return [question_prompt(loaded, image, text) for image, text in zip(images, texts, strict=True)]


def test_a_batch_answers_as_each_prompt_alone(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    together = generate(loaded, prompts, [GREEDY] * len(prompts))
    for prompt, answer in zip(prompts, together, strict=True):
        alone = generate(loaded, [prompt], [GREEDY])[0]
        assert alone.text == answer.text
        assert alone.prompt_tokens == answer.prompt_tokens
        assert [t.logprob for t in alone.tokens] == pytest.approx([t.logprob for t in answer.tokens], abs=1e-4)


def test_greedy_rows_ignore_sampled_neighbours(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    alone = generate(loaded, [prompts[0]], [GREEDY])[0]
    mixed = [GREEDY, Sampling(max_tokens=3, temperature=1.5, seed=1), Sampling(max_tokens=9, temperature=1.0, seed=2)]
    answers = generate(loaded, prompts[:3], mixed)
    assert answers[0].text == alone.text
    assert [len(a.tokens) <= s.max_tokens for a, s in zip(answers, mixed, strict=True)] == [True] * 3


def test_seeds_repeat_and_differ(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    samplings = [Sampling(max_tokens=8, temperature=1.0, seed=seed) for seed in (7, 7, 8)]
    first, same, other = generate(loaded, [prompts[0]] * 3, samplings)
    assert first.text == same.text
    assert first.text != other.text
    again = generate(loaded, [prompts[0]], [samplings[0]])[0]
    assert again.text == first.text


def test_sampling_follows_the_distribution(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    """With a tiny nucleus the only sample left is the greedy one."""
    nucleus = Sampling(max_tokens=4, temperature=1.0, top_p=1e-6, seed=3)
    assert generate(loaded, [prompts[0]], [nucleus])[0].text == generate(loaded, [prompts[0]], [Sampling(4)])[0].text


def test_logprobs_are_those_of_a_forward_pass(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    answer = generate(loaded, [prompts[1]], [Sampling(max_tokens=4, top_logprobs=3)])[0]
    features = collate(loaded, [encode(loaded, prompts[1])])
    ids = torch.tensor([[token.id for token in answer.tokens]])
    features["input_ids"] = torch.cat([features["input_ids"], ids], 1)
    features["attention_mask"] = torch.ones_like(features["input_ids"])
    with torch.inference_mode():
        logprobs = loaded.model(**features).logits[0].float().log_softmax(-1)
    for place, token in enumerate(answer.tokens):
        row = logprobs[answer.prompt_tokens - 1 + place]
        assert token.logprob == pytest.approx(float(row[token.id]), abs=1e-4)
        assert token.logprob == pytest.approx(token.top[0].logprob, abs=1e-6)
        assert [a.logprob for a in token.top] == sorted((a.logprob for a in token.top), reverse=True)


def test_scores_agree_with_generation(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    answer = generate(loaded, [prompts[0]], [Sampling(max_tokens=5)])[0]
    ids = [token.id for token in answer.tokens]
    score = score_answers(loaded, [prompts[0]], [[answer.text, "red"]])[0]
    if loaded.tokenizer(answer.text, add_special_tokens=False)["input_ids"] == ids:
        made = [token.logprob for token in answer.tokens]
        assert list(score[0].logprobs[: len(made)]) == pytest.approx(made, abs=1e-4)
    assert score[1].total < 0
    assert score[1].mean == pytest.approx(score[1].total / len(score[1].tokens))


def test_scoring_several_answers_at_once_equals_one_by_one(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    answers = ["red", "a longer answer of words", "9"]
    together = score_answers(loaded, [prompts[2]], [answers])[0]
    alone = [score_answers(loaded, [prompts[2]], [[answer]])[0][0] for answer in answers]
    assert [s.total for s in together] == pytest.approx([s.total for s in alone], abs=1e-3)


def test_a_stop_string_ends_the_answer(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    sampled = Sampling(max_tokens=8, temperature=1.0, seed=5)
    free = generate(loaded, [prompts[0]], [sampled])[0]
    stop = free.text[len(free.text) // 2 :][:2]
    stopped = generate(loaded, [prompts[0]], [replace(sampled, stop=(stop,))])[0]
    assert stop
    assert stop not in stopped.text
    assert free.text.startswith(stopped.text)
    assert stopped.finish_reason == "stop"


def test_messages_render_in_order_of_the_template(loaded: LoadedModel) -> None:
    parts = [ImagePart(type="image_url", image_url=ImageURL(url="data:,")), TextPart(type="text", text="what is this?")]
    rendered = render(loaded, [ChatMessage(role="user", content=parts)], [Image.new("RGB", (9, 9))])
    assert rendered.text == question_prompt(loaded, Image.new("RGB", (9, 9)), "what is this?").text


def test_text_only_prompts_work(loaded: LoadedModel) -> None:
    prompt = render(loaded, [ChatMessage(role="user", content="hello")], [])
    assert generate(loaded, [prompt], [GREEDY])[0].prompt_tokens > 0


def test_prompts_with_different_numbers_of_images_share_a_batch(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    parts = [ImagePart(type="image_url", image_url=ImageURL(url="data:,"))] * 2 + [TextPart(type="text", text="same?")]
    two = render(loaded, [ChatMessage(role="user", content=parts)], [p.images[0] for p in prompts[:2]])
    together = generate(loaded, [prompts[0], two], [GREEDY, GREEDY])
    assert together[0].text == generate(loaded, [prompts[0]], [GREEDY])[0].text
    assert together[1].text == generate(loaded, [two], [GREEDY])[0].text


def test_a_broken_folder_is_a_bad_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="does not load"):
        load_model(tmp_path)
    with pytest.raises(InvalidInput, match="no dtype"):
        load_model(tmp_path, dtype="int4")
