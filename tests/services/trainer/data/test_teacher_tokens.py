"""The teacher's alternative tokens in the student's vocabulary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.trainer.data.dataset import Sample, read_training_set
from services.trainer.data.encoder import Encoder
from services.trainer.data.teacher_tokens import TeacherTokens
from shared.sets import Alternative
from shared.store import Store
from shared.vlm.attention import load_probe
from shared.vlm.loading import load_model
from tests.services.trainer.full_set import make_full_set
from tests.services.trainer.small_set import picture


def test_teacher_tokens_are_read_only_where_the_tokenizers_agree(tmp_path: Path, tiny_student: Path) -> None:
    loaded = load_probe(tiny_student, dtype="float32", device="cpu")
    store = Store((tmp_path / "store").as_uri())
    make_full_set(store, tiny_student, tmp_path / "images")
    data = read_training_set(store, "j1")
    encoder = Encoder(loaded, lambda target: target.sample.question, lambda _: _open(tmp_path), cache_bytes=1 << 26)
    tokens = TeacherTokens(loaded, encoder.answer_ids)
    known = [tokens.has(sample) for sample in data.samples[: data.disparity]]
    assert known == [False, True] * (data.disparity // 2)
    sample = data.samples[1]
    placed = tokens.read(sample)
    assert placed is not None
    assert [ids[0] for ids, _ in placed] == encoder.answer_ids(sample)
    shorter = replace(sample, pair_id="without-end", teacher_top=(sample.teacher_top or ())[:-1])
    assert tokens.read(shorter) == [*placed[:-1], ([], [])]
    other = replace(sample, pair_id="other", answer="green green")
    assert tokens.read(other) is None


@pytest.mark.parametrize(("name", "known"), [("<image>", False), ("<pad>", False), ("<end_of_utterance>", True)])
def test_a_special_token_that_the_teacher_names_is_not_learned_unless_it_ends_the_answer(
    tiny_student: Path, name: str, known: bool
) -> None:
    loaded = load_model(tiny_student)
    ids = [*loaded.tokenizer("red", add_special_tokens=False)["input_ids"], loaded.eos_ids[0]]
    said = [loaded.tokenizer.decode([token]) for token in ids]
    top = tuple((Alternative(text, -0.5), Alternative(name, -1.0)) for text in said)
    item = Sample("p", "image", None, "chart", "what?", "red", teacher_top=top)
    placed = TeacherTokens(loaded, lambda _: ids).read(item)
    assert placed is not None
    number = loaded.tokenizer.convert_tokens_to_ids(name)
    assert [number in found for found, _ in placed[:-1]] == [known] * (len(ids) - 1)


def _open(folder: Path) -> Any:
    from PIL import Image

    return Image.open(picture(folder / "more", "red", 7)).convert("RGB")
