"""`mpa doctor` as people run it."""

from __future__ import annotations

import pytest

from shared.compatibility import RELEASE
from shared.contracts import Diagnosis
from tests.services.cli.doctor.running_doctor import (
    OK,
    mpa,
    only,
)


@pytest.mark.usefixtures("environment")
def test_a_healthy_system_has_nothing_to_fix() -> None:
    result = mpa("--json")
    found = Diagnosis.model_validate_json(result.stdout)
    assert [f for f in found.findings if f.state is not OK] == []
    assert (result.exit_code, found.healthy, found.release) == (0, True, RELEASE)
    names = {finding.check for finding in found.findings}
    assert names >= {"teacher", "parity's key", "student's clock", "releases", "redis' persistence", "redis' eviction"}
    assert names >= {"redis' clock", "store", "room in the store", "teacher's answer", "teacher's logprobs"}
    assert names >= {"student's version", "parity workers", "trainer workers", "settings"}


@pytest.mark.usefixtures("environment")
def test_the_table_tells_what_to_do(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("MPA_TRAINER_URL", f"http://127.0.0.1:{free_port}")
    result = mpa(*only("trainer", "student"))
    assert result.exit_code == 1
    assert "broken" in result.stdout and "MPA_TRAINER_URL" in result.stdout
    assert "2 broken" not in result.output and "1 broken" in result.output


@pytest.mark.usefixtures("environment")
def test_an_unknown_check_cannot_be_skipped() -> None:
    refused = mpa("--skip", "weather")
    assert refused.exit_code == 2 and "--skip weather" in refused.stderr and "teacher-answers" in refused.stderr
