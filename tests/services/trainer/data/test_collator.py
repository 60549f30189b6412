"""What the student is trained on: the serving prompt, then the answer, and labels on the answer only."""

from __future__ import annotations

import pytest
import torch

from services.trainer.data.collator import Collator, concatenated
from services.trainer.losses import IGNORE
from shared.vlm.loading import LoadedModel
from tests.services.trainer.data.samples import encoder, sample


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


def test_pictures_of_different_sizes_are_padded_with_absent_ones() -> None:
    joined = concatenated([torch.ones(1, 2, 3, 4, 4), torch.ones(1, 1, 3, 2, 2)])
    assert joined.shape == (2, 2, 3, 4, 4)
    assert joined[1, 1].abs().sum() == 0
    assert joined[1, 0].sum() == 3 * 2 * 2
