"""Lineage cards."""

from __future__ import annotations

from pathlib import Path

from shared.checkpoints import CARD_NAME, build_card
from tests.shared.checkpoints.small_folder import model_folder


def test_the_card_is_not_part_of_its_own_digest(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    before = build_card(folder, version="v1", student="student").digest
    (folder / CARD_NAME).write_text("{}")
    assert build_card(folder, version="v1", student="student").digest == before
