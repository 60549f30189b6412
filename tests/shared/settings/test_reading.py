"""Settings that are read as a process starts: all that is wrong is reported at once."""

from __future__ import annotations

import pytest

from shared.settings import StudentSettings, read_settings


def test_all_bad_settings_are_told_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MPA_LOG_FORMAT", "xml")
    monkeypatch.setenv("MPA_STUDENT_MAX_BATCH", "0")
    with pytest.raises(SystemExit) as ended:
        read_settings(StudentSettings)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "2 settings" in said and "MPA_LOG_FORMAT: Input should be 'text' or 'json'" in said
    assert "MPA_STUDENT_MAX_BATCH: Input should be greater than or equal to 1" in said
