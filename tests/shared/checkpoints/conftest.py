"""A registry on an empty store."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.checkpoints import CheckpointRegistry
from shared.store import Store


@pytest.fixture
def registry(tmp_path: Path) -> CheckpointRegistry:
    return CheckpointRegistry(Store((tmp_path / "store").as_uri()), "student")
