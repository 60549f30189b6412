"""A short storm with fixed seeds; ``make soak`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.storm.storm import weather

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(900)]
SEEDS = (2, 3, 4)
FAULTS = 4


async def test_a_short_storm_changes_nothing(tmp_path: Path) -> None:
    summary = await weather(tmp_path, SEEDS, FAULTS)
    print(summary)
    assert sum(len(run.faults) for run in summary.runs) >= len(SEEDS)
    assert [str(run) for run in summary.runs if run.verdict != "equal"] == []
