"""The teacher's alternative tokens in the student's vocabulary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from services.trainer.data.dataset import read_training_set
from services.trainer.data.encoder import Encoder
from services.trainer.data.teacher_tokens import TeacherTokens
from shared.store import Store
from shared.vlm.attention import load_probe
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


def _open(folder: Path) -> Any:
    from PIL import Image

    return Image.open(picture(folder / "more", "red", 7)).convert("RGB")
