"""One tiny base of every model family."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tiny_families import FAMILIES, seeded


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return seeded(request.param, tmp_path_factory.mktemp(request.param))
