"""A tiny random student of the real class, shared by all tests of the trainer (they only read it), and a job on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.checkpoints import CheckpointRegistry
from shared.settings import TrainerSettings
from shared.state import JobStore
from shared.store import Store
from tests.services.trainer.played_job import PlayedJob
from tests.services.trainer.scripted_student import ScriptedStudent, scripted_student
from tests.services.trainer.small_set import TASKS_FILE, Counts, make_set
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


@pytest.fixture
def student() -> Iterator[ScriptedStudent]:
    with scripted_student() as script:
        yield script


@pytest.fixture
def registry(store: Store, tiny_student: Path) -> CheckpointRegistry:
    """The student's registry, with its base model."""
    registry = CheckpointRegistry(store, "student")
    registry.register_base(tiny_student)
    return registry


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, store: Store, student: ScriptedStudent) -> TrainerSettings:
    return TrainerSettings(
        data_dir=tmp_path,
        store=store.url,
        redis_url=redis_url,
        student_url=student.url,
        tasks_file=TASKS_FILE,
        train_threads=1,
        lease=3.0,  # type: ignore[arg-type]
    )


@pytest.fixture
def job(settings: TrainerSettings, store: Store, jobs: JobStore, tiny_student: Path) -> PlayedJob:
    return PlayedJob(settings, store, jobs, tiny_student)
