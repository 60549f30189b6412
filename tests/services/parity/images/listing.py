"""What sources name, as short lists."""

from __future__ import annotations

from pathlib import Path

from services.parity.images.access import SourceRules
from services.parity.images.leaving_out import LeftOutCount
from services.parity.images.sources import list_images
from shared.contracts import ImageSource
from shared.store import Store


def images(
    root: Path, *sources: ImageSource, most: int = 100, urls: bool = False, left_out: LeftOutCount | None = None
) -> list[tuple[str, list[str]]]:
    store = Store((root.parent / "store").as_uri())
    entries = list_images(sources, ["chart"], store, SourceRules([root], urls, most), "student", left_out)
    assert [entry.index for entry in entries] == list(range(len(entries)))
    return [(Path(entry.image).name, entry.tasks) for entry in entries]


def in_store(store: Store, source: ImageSource, roots: tuple[Path, ...] = ()) -> list[tuple[str, list[str]]]:
    """Images by what follows the pile's URL, with their tasks."""
    entries = list_images([source], ["chart"], store, SourceRules(roots, False, 100), "student")
    return [(entry.image.removeprefix(store.url_of("piles/may") + "/"), entry.tasks) for entry in entries]
