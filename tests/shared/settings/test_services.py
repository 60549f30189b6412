"""Settings of one service."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from shared.settings import StudentSettings


def test_bad_values_name_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPA_STUDENT_MAX_BATCH", "0")
    with pytest.raises(ValidationError, match="student_max_batch"):
        StudentSettings()
