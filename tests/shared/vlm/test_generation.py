"""Generation and scoring on a real (tiny, random) model: batches change nothing, log-probabilities are a forward
pass's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.contracts import ChatMessage, ImagePart, ImageURL, TextPart
from shared.errors import BadCheckpoint, InvalidInput
from shared.vlm.generation import Generated, Piece, generate, generate_encoded
from shared.vlm.loading import LoadedModel, load_model
from shared.vlm.prompting import Prompt, collate, encode, question_prompt, render
from shared.vlm.rows import _overlap
from shared.vlm.sampling import Sampling
from shared.vlm.scoring import score_batch, token_logprobs
from tests.scoring import score_answers
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
    """The same tokens get the same log-probabilities, whether decoded one by one or read in one pass."""
    samplings = [GREEDY, *(Sampling(max_tokens=4 + n, temperature=1.0, seed=n) for n in range(3))]
    answers = generate(loaded, prompts, samplings)
    ids = [[token.id for token in answer.tokens] for answer in answers]
    assert all(ids)
    scored = token_logprobs(loaded, [encode(loaded, prompt) for prompt in prompts], ids)
    for answer, logprobs in zip(answers, scored, strict=True):
        assert logprobs == pytest.approx([token.logprob for token in answer.tokens], abs=1e-4)


def test_a_score_covers_the_answer_and_its_end(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    score = score_answers(loaded, [prompts[0]], [["red"]])[0][0]
    assert "".join(score.tokens[:-1]).strip() == "red"
    assert score.tokens[-1] == loaded.tokenizer.decode([loaded.eos_ids[0]])
    assert score.mean == pytest.approx(score.total / len(score.tokens))
    assert score.total < 0


@pytest.mark.parametrize("size", [2, 3, 4])
def test_scores_do_not_depend_on_batch_size_or_padding(loaded: LoadedModel, prompts: list[Prompt], size: int) -> None:
    answers = ["red", "a much longer answer 12", "7", "blue sign"]
    pairs = [(encode(loaded, prompt), answer) for prompt, answer in zip(prompts, answers, strict=True)]
    assert len({encoded.length for encoded, _ in pairs}) > 1
    alone = [score_batch(loaded, [pair])[0].logprobs for pair in pairs]
    together = [s.logprobs for at in range(0, 4, size) for s in score_batch(loaded, pairs[at : at + size])]
    for one, other in zip(alone, together, strict=True):
        assert list(other) == pytest.approx(list(one), abs=1e-4)


def test_a_score_reads_the_answer_as_the_template_writes_it(
    loaded: LoadedModel, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    template = (
        "{% for m in messages %}{{ m['role'] }}:{% if m['role'] == 'assistant' %} {% endif %}"
        "{% for p in m['content'] %}{{ p['text'] if p['type'] == 'text' else '<image>' }}{% endfor %}"
        "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    monkeypatch.setattr(loaded.processor, "chat_template", template)
    image = prompts[0].images[0]
    prompt = question_prompt(loaded, image, "what colour is it?")
    encoded = encode(loaded, prompt)
    spaced = [*loaded.tokenizer(" red", add_special_tokens=False)["input_ids"], loaded.eos_ids[0]]
    assert spaced[:-1] != loaded.tokenizer("red", add_special_tokens=False)["input_ids"]
    expected = token_logprobs(loaded, [encoded], [spaced])[0]
    assert list(score_answers(loaded, [prompt], [["red"]])[0][0].logprobs) == pytest.approx(expected, abs=1e-6)


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


def test_a_prompt_without_image_takes_none_from_its_neighbours(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    words = render(loaded, [ChatMessage(role="user", content="hello")], [])
    together = generate(loaded, [words, prompts[1], prompts[2]], [GREEDY] * 3)
    for prompt, answer in zip([words, *prompts[1:3]], together, strict=True):
        alone = generate(loaded, [prompt], [GREEDY])[0]
        assert [t.logprob for t in answer.tokens] == pytest.approx([t.logprob for t in alone.tokens], abs=1e-4)


class Ear:
    """Remembers what it hears; leaves after ``patience`` pieces."""

    streams = True

    def __init__(self, patience: int = 1 << 30) -> None:
        self.pieces: list[Piece] = []
        self.answers: list[Generated] = []
        self._patience = patience

    @property
    def gone(self) -> bool:
        return len(self.pieces) >= self._patience

    def piece(self, piece: Piece) -> None:
        self.pieces.append(piece)

    def finished(self, answer: Generated) -> None:
        self.answers.append(answer)


def test_listeners_hear_the_answer_as_it_grows(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    batch = [encode(loaded, prompt) for prompt in prompts[:2]]
    samplings = [Sampling(max_tokens=9, temperature=1.0, seed=1), Sampling(max_tokens=3, temperature=1.0, seed=2)]
    ears = [Ear(), Ear()]
    answers = generate_encoded(loaded, batch, samplings, ears)
    for ear, answer in zip(ears, answers, strict=True):
        assert "".join(piece.text for piece in ear.pieces) == answer.text
        assert [t for piece in ear.pieces for t in piece.tokens] == list(answer.tokens)
        assert ear.answers == [answer]
    assert len(ears[0].pieces) > 3


def test_a_listener_that_leaves_ends_its_row_only(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    batch = [encode(loaded, prompt) for prompt in prompts[:2]]
    samplings = [Sampling(max_tokens=9, temperature=1.0, seed=seed) for seed in (1, 2)]
    whole = generate_encoded(loaded, batch, samplings)
    left, stayed = generate_encoded(loaded, batch, samplings, [Ear(patience=2), Ear()])
    assert len(left.tokens) == 3 < len(whole[0].tokens)
    assert stayed == whole[1]


@given(st.text("ab", max_size=8), st.text("ab", min_size=1, max_size=4))
def test_overlap_is_the_longest_end_that_begins_the_stop(text: str, stop: str) -> None:
    found = _overlap(text, stop)
    assert text.endswith(stop[:found])
    assert not any(text.endswith(stop[:longer]) for longer in range(found + 1, len(stop) + 1))


def test_a_streamed_stop_string_never_shows_its_beginning(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    sampled = Sampling(max_tokens=9, temperature=1.0, seed=5)
    encoded = [encode(loaded, prompts[0])]
    free = generate_encoded(loaded, encoded, [sampled])[0].text
    stop = free[len(free) // 2 :][:3]
    ear = Ear()
    stopped = generate_encoded(loaded, encoded, [replace(sampled, stop=(stop,))], [ear])[0]
    assert len(stop) == 3
    assert "".join(piece.text for piece in ear.pieces) == stopped.text == free[: free.find(stop)]


def test_a_broken_folder_is_a_bad_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="does not load"):
        load_model(tmp_path)
    with pytest.raises(InvalidInput, match="not a dtype"):
        load_model(tmp_path, dtype="int4")
