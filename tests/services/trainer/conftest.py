"""A tiny random student of the real class, shared by all tests of the trainer (they only read it)."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.store import Store
from tests.services.trainer.small_set import Counts, make_set
from tests.tiny_models import build_tiny_idefics3


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_idefics3(tmp_path_factory.mktemp("tiny-student"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store((tmp_path / "store").as_uri())


@pytest.fixture
def small_set(tmp_path: Path, store: Store) -> Store:
    """The store with a set of job ``j1`` in it."""
    make_set(store, "j1", tmp_path / "images", Counts())
    return store
