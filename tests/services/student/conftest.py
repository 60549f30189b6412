"""Two tiny checkpoints of one architecture, and the settings of a student that serves the first."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import torch

from shared.checkpoints import CheckpointRegistry
from shared.settings import StudentSettings
from shared.store import Store
from tests.tiny_models import build_tiny_idefics3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return build_tiny_idefics3(tmp_path_factory.mktemp("base"), seed=0)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return build_tiny_idefics3(tmp_path_factory.mktemp("other"), seed=11)


@pytest.fixture
def settings(tmp_path: Path, base: Path) -> StudentSettings:
    wait = timedelta(milliseconds=2)
    return StudentSettings(data_dir=tmp_path, student_model=str(base), redis_url="", student_max_wait=wait)


@pytest.fixture
def registry(settings: StudentSettings) -> CheckpointRegistry:
    return CheckpointRegistry(Store(settings.store_url), "student")
