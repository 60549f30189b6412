"""Which saved steps a training may resume from."""

from __future__ import annotations

from pathlib import Path

from services.trainer.leveler.callbacks.saved_steps import last_complete_step


def test_half_written_steps_are_not_resumed_from(tmp_path: Path) -> None:
    for step, whole in ((5, True), (10, True), (15, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if whole:
            (folder / "complete").touch()
    for clean in (False, True):
        found = last_complete_step(tmp_path, clean)
        assert found is not None
        assert found.name == "checkpoint-10"
        assert (tmp_path / "checkpoint-15").exists() is not clean
    assert last_complete_step(tmp_path / "none") is None
