"""The rooms stay small enough to be read as a list."""

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
