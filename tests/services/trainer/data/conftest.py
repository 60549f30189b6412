"""The tiny student, loaded once for each module that only reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.vlm.loading import LoadedModel, load_model


@pytest.fixture(scope="module")
def loaded(tiny_student: Path) -> LoadedModel:
    return load_model(tiny_student)
