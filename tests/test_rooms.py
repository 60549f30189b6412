"""The rooms stay small enough to be read as a list, and each test file is named after the module that it tests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_MODULES = 12
ACROSS_MODULES = {
    "services/parity/mining/test_real_teacher.py": "mining with vLLM: its cache, its grammar, its drain",
    "services/parity/test_tracing.py": "one trace through the API, a worker and the teacher",
    "services/student/rollout/test_fleet.py": "two replicas in processes of their own on one Redis and store",
    "services/test_generated_clients.py": "the OpenAPI documents of all services, through clients made from them",
    "services/test_json_logs.py": "the log of every service",
    "services/test_one_trace.py": "one trace through all services",
    "services/test_startup.py": "bad settings of every process",
    "services/trainer/leveler/test_families.py": "every model family through a whole training",
    "shared/store/test_remote_credentials.py": "store/remote.py with credentials of every kind",
    "shared/store/test_remote_faults.py": "store/remote.py, sets and checkpoints when S3 fails",
    "shared/store/test_remote_races.py": "store/remote.py, sets and checkpoints with many creators",
    "shared/vlm/test_families.py": "every model family through all modules of shared/vlm",
}
"""Test files that test no single module, and what they test instead."""


def crowded(root: Path) -> dict[str, int]:
    """Folders below ``services`` and ``shared`` of ``root`` with too many modules, and how many they hold."""
    files = [file for top in ("services", "shared") for file in (root / top).rglob("*.py")]
    counts = Counter(str(file.parent.relative_to(root)) for file in files if file.name != "__init__.py")
    return {folder: count for folder, count in counts.items() if count > MOST_MODULES}


def homeless(root: Path) -> list[str]:
    """Test files below ``tests/services`` and ``tests/shared`` of ``root`` that are named after no module or package.

    ``test_main.py`` tests ``__main__.py``, and ``test_init.py`` tests ``__init__.py``.
    """
    tests = root / "tests"
    files = [file for top in ("services", "shared") for file in (tests / top).rglob("test_*.py")]
    return sorted(str(file.relative_to(tests)) for file in files if not _is_mirrored(root, file.relative_to(tests)))


def _is_mirrored(root: Path, test: Path) -> bool:
    name = test.name.removeprefix("test_")
    return any((root / test.parent / module).is_file() for module in (name, f"__{name[:-3]}__.py"))


def test_no_room_holds_more_than_twelve_modules() -> None:
    assert not crowded(ROOT)


def test_a_crowded_room_is_found(tmp_path: Path) -> None:
    room = tmp_path / "shared" / "attic"
    room.mkdir(parents=True)
    for number in range(MOST_MODULES):
        (room / f"module_{number}.py").touch()
    (room / "__init__.py").touch()
    assert not crowded(tmp_path)
    (room / "one_too_many.py").touch()
    assert crowded(tmp_path) == {"shared/attic": MOST_MODULES + 1}


def test_every_test_file_is_named_after_its_module() -> None:
    assert set(homeless(ROOT)) == ACROSS_MODULES.keys()


def test_test_files_without_a_module_are_found(tmp_path: Path) -> None:
    room = tmp_path / "shared" / "state"
    room.mkdir(parents=True)
    for module in ("__init__.py", "__main__.py", "jobs.py"):
        (room / module).touch()
    for file in ("test_init.py", "test_main.py", "test_jobs.py", "played.py", "test_job.py"):
        _touch(tmp_path / "tests" / "shared" / "state" / file)
    _touch(tmp_path / "tests" / "services" / "parity" / "loft" / "test_main.py")
    assert homeless(tmp_path) == ["services/parity/loft/test_main.py", "shared/state/test_job.py"]


def _touch(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
