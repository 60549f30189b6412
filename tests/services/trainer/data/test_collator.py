"""What the student is trained on: the serving prompt, then the answer, and labels on the answer only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from services.trainer.data.collator import Collator, concatenated
from services.trainer.data.dataset import Sample
from services.trainer.data.encoder import Encoder
from services.trainer.data.targets import answer_target
from services.trainer.losses import IGNORE
from shared.contracts import ChatMessage, ImagePart, ImageURL, TextPart
from shared.errors import InvalidInput
from shared.vlm.loading import LoadedModel, load_model
from shared.vlm.prompting import encode, render


@pytest.fixture(scope="module")
def loaded(tiny_student: Path) -> LoadedModel:
    return load_model(tiny_student)


def sample(number: int, question: str = "what colour is it?", answer: str = "red") -> Sample:
    return Sample(f"p{number}", f"image-{number % 2}", None, "chart", question, answer, is_replay=number % 2 == 1)


def picture(item: Sample) -> Image.Image:
    return Image.new("RGB", (96, 96), (200, 10, 10) if item.image == "image-0" else (10, 10, 200))


def encoder(loaded: LoadedModel, cache_bytes: int = 1 << 30) -> Encoder:
    return Encoder(loaded, lambda target: target.sample.question, picture, cache_bytes=cache_bytes)


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


@pytest.mark.parametrize("answer", ["the <image> tag", "<end_of_utterance>", "red<end_of_utterance> why", "<|user|>"])
def test_an_answer_that_spells_special_tokens_is_learned_as_its_text(loaded: LoadedModel, answer: str) -> None:
    items = [sample(0, "<image> of what?", answer), sample(1)]
    batch = Collator(encoder(loaded))(items)
    learned = batch["labels"][0][batch["labels"][0] != IGNORE]
    assert loaded.tokenizer.decode(learned[:-1], skip_special_tokens=True) == answer
    assert int(learned[-1]) in loaded.eos_ids
    image = loaded.tokenizer.convert_tokens_to_ids("<image>")
    counts = (batch["input_ids"] == image).sum(1).tolist()
    assert counts[0] == counts[1] == loaded.processor.image_seq_len


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


def test_labels_cover_answers_and_nothing_else(loaded: LoadedModel) -> None:
    items = [sample(0, answer="red"), sample(1, "a much longer question about colours?", answer="dark blue")]
    batch = Collator(encoder(loaded))(items)
    for row, item in enumerate(items):
        chosen = batch["labels"][row] != IGNORE
        learned = batch["input_ids"][row][chosen]
        assert torch.equal(batch["labels"][row][chosen], learned)
        assert loaded.tokenizer.decode(learned[:-1]) == item.answer
        assert int(learned[-1]) in loaded.eos_ids
    assert batch["is_replay"].tolist() == [False, True]
    padding = batch["attention_mask"] == 0
    assert padding.any()
    assert (batch["labels"][padding] == IGNORE).all()


def test_padding_does_not_change_the_loss(loaded: LoadedModel) -> None:
    items = [sample(0), sample(1, "a much longer question about colours and shapes?", "dark blue")]
    collate = Collator(encoder(loaded))

    def answer_logits(batch: dict[str, torch.Tensor], row: int) -> torch.Tensor:
        names = ("input_ids", "attention_mask", "pixel_values", "pixel_attention_mask")
        with torch.no_grad():
            logits = loaded.model(**{n: batch[n] for n in names}).logits[row]
        place = (batch["labels"][row] != IGNORE).nonzero()[:, 0] - 1
        return logits[place]

    alone, together = answer_logits(collate(items[:1]), 0), answer_logits(collate(items), 0)
    assert torch.allclose(alone, together, atol=1e-5)


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


def test_pictures_of_different_sizes_are_padded_with_absent_ones() -> None:
    joined = concatenated([torch.ones(1, 2, 3, 4, 4), torch.ones(1, 1, 3, 2, 2)])
    assert joined.shape == (2, 2, 3, 4, 4)
    assert joined[1, 1].abs().sum() == 0
    assert joined[1, 0].sum() == 3 * 2 * 2
