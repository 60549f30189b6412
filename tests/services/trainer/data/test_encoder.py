"""A target becomes the tokens that serving sees, then the text to learn; what was encoded is kept."""

from __future__ import annotations

import pytest
import torch

from services.trainer.data.encoder import Encoder
from services.trainer.data.targets import answer_target
from shared.contracts import ChatMessage, ImagePart, ImageURL, TextPart
from shared.errors import InvalidInput
from shared.vlm.loading import LoadedModel
from shared.vlm.prompting import encode, render
from tests.services.trainer.data.samples import encoder, picture, sample


def test_the_prompt_part_is_what_the_student_service_sees(loaded: LoadedModel) -> None:
    item = sample(0, "how many books are there?")
    message = ChatMessage(
        role="user",
        content=[
            ImagePart(type="image_url", image_url=ImageURL(url="data:,")),
            TextPart(type="text", text=item.question),
        ],
    )
    served = encode(loaded, render(loaded, [message], [picture(item)]))
    trained = encoder(loaded).encode(answer_target(item))
    assert trained.prompt == served.length
    assert trained.tokens["input_ids"][: trained.prompt].tolist() == served.features["input_ids"][0].tolist()
    assert torch.equal(trained.images["pixel_values"], served.features["pixel_values"])


def test_the_answer_part_decodes_to_the_answer_and_ends(loaded: LoadedModel) -> None:
    trained = encoder(loaded).encode(answer_target(sample(0, answer="seven 7")))
    tail = trained.tokens["input_ids"][trained.prompt :].tolist()
    assert tail[-1] in loaded.eos_ids
    assert loaded.tokenizer.decode(tail[:-1]) == "seven 7"
    assert sum(token in loaded.eos_ids for token in tail) == 1


SPACED = (
    "{% for m in messages %}{{ m['role'] }}:{% if m['role'] == 'assistant' %} {% endif %}"
    "{% for p in m['content'] %}{{ p['text'] if p['type'] == 'text' else '<image>' }}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


def test_a_template_that_begins_answers_with_a_space_is_followed(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded.processor, "chat_template", SPACED)
    trained = encoder(loaded).encode(answer_target(sample(0, answer="red")))
    learned = trained.tokens["input_ids"][trained.prompt :].tolist()
    assert loaded.tokenizer.decode(learned) == " red<end_of_utterance>"


def test_the_cache_changes_nothing_but_time(loaded: LoadedModel) -> None:
    cached, uncached = encoder(loaded), encoder(loaded, cache_bytes=0)
    opened: list[str] = []
    counting = Encoder(
        loaded,
        lambda target: target.sample.question,
        lambda item: opened.append(item.image) or picture(item),
        cache_bytes=1 << 30,
    )
    for _ in range(3):
        for number in range(4):
            one, other = cached.encode(answer_target(sample(number))), uncached.encode(answer_target(sample(number)))
            assert all(torch.equal(one.tokens[name], other.tokens[name]) for name in other.tokens)
            assert all(torch.equal(one.images[name], other.images[name]) for name in other.images)
            counting.encode(answer_target(sample(number)))
    assert len(opened) == 4


def test_an_answer_without_tokens_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(InvalidInput, match="no tokens"):
        encoder(loaded).encode(answer_target(sample(0, answer="")))
