"""The rooms stay small enough to be read as a list, and the tests lie where their rooms are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_MODULES = 12


def crowded(root: Path) -> dict[str, int]:
    """Folders below ``services`` and ``shared`` of ``root`` with too many modules, and how many they hold."""
    files = [file for top in ("services", "shared") for file in (root / top).rglob("*.py")]
    counts = Counter(str(file.parent.relative_to(root)) for file in files if file.name != "__init__.py")
    return {folder: count for folder, count in counts.items() if count > MOST_MODULES}


def homeless(root: Path) -> list[str]:
    """Folders below ``tests/services`` and ``tests/shared`` of ``root`` with tests of a folder that does not exist."""
    tests = root / "tests"
    folders = {
        file.parent.relative_to(tests) for top in ("services", "shared") for file in (tests / top).rglob("test_*.py")
    }
    return sorted(str(folder) for folder in folders if not (root / folder).is_dir())


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


def test_tests_lie_where_their_rooms_are() -> None:
    assert not homeless(ROOT)


def test_tests_without_a_room_are_found(tmp_path: Path) -> None:
    (tmp_path / "shared" / "state").mkdir(parents=True)
    for folder in ("shared/state", "shared/attic", "services/parity/loft"):
        (tmp_path / "tests" / folder).mkdir(parents=True)
        (tmp_path / "tests" / folder / "test_box.py").touch()
    (tmp_path / "tests" / "shared" / "data").mkdir()
    (tmp_path / "tests" / "shared" / "data" / "played.py").touch()
    assert homeless(tmp_path) == ["services/parity/loft", "shared/attic"]
