"""The memory estimate holds for a real training of a medium model, within a generous factor."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.training.memory import measure


@pytest.mark.slow
def test_a_real_training_takes_about_what_is_estimated(tmp_path: Path) -> None:
    row = measure("frozen vision", tmp_path)
    assert 0.5 < float(str(row["measured / estimated"])) < 2
