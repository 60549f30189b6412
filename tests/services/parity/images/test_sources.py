"""Image sources: order, tasks, links, and messages that name the line that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.contracts import FolderSource, GlobSource
from shared.errors import Forbidden, InvalidInput
from shared.store import Store
from tests.services.parity.images.listing import images, in_store


def test_folders_are_walked_in_order(root: Path) -> None:
    assert images(root, FolderSource(path=str(root))) == [(n, ["chart"]) for n in ("a.JPG", "b.png", "c.webp")]
    assert len(images(root, FolderSource(path=str(root), recursive=False))) == 2


def test_globs(root: Path) -> None:
    assert images(root, GlobSource(pattern=f"{root}/**/*.*", tasks=["text"])) == [
        (name, ["text"]) for name in ("a.JPG", "b.png", "c.webp")
    ]
    for pattern in (f"{root}/../*.png", "/*/passwd"):
        with pytest.raises((Forbidden, InvalidInput)):
            images(root, GlobSource(pattern=pattern))


def test_links_to_folders_and_the_reasons_for_an_empty_source_are_said(root: Path, tmp_path: Path) -> None:
    bare = root / "bare"
    bare.mkdir()
    (bare / "a.cr2").write_bytes(b"x")
    (bare / "link").symlink_to(tmp_path)
    with pytest.raises(
        InvalidInput, match=r"holds no images: .* Left out: .*link to a folder.*1 × not an image .*\.cr2"
    ):
        images(root, FolderSource(path=str(bare)))


def test_an_image_named_twice_is_one_image_with_all_its_tasks(root: Path) -> None:
    sources = [FolderSource(path=str(root)), GlobSource(pattern=f"{root}/b.png", tasks=["text"])]
    assert ("b.png", ["chart", "text"]) in images(root, *sources)
    assert len(images(root, *sources)) == 3


def test_limits_and_links_that_lead_out(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="more than 2 images"):
        images(root, FolderSource(path=str(root)), most=2)
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(Forbidden, match="MPA_IMAGE_ROOTS"):
        images(root, FolderSource(path=str(root / "out")))
    with pytest.raises(InvalidInput, match="does not exist"):
        images(root, FolderSource(path=str(root / "nothing")))


def test_a_prefix_of_the_store_is_a_folder(pile_in_store: Store) -> None:
    url = pile_in_store.url_of("piles/may")
    every = ["a.JPG", "b.png", "deep/c.webp", "deep/er/d.png"]
    assert [name for name, _ in in_store(pile_in_store, FolderSource(path=url))] == every
    assert [name for name, _ in in_store(pile_in_store, FolderSource(path=f"{url}/", recursive=False))] == every[:2]
    assert len(in_store(pile_in_store, FolderSource(path=pile_in_store.url))) == len(every) + 1


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("piles/may/*", ["a.JPG", "b.png"]),
        ("piles/may/*.png", ["b.png"]),
        ("piles/may/**/*.png", ["b.png", "deep/er/d.png"]),
        ("piles/may/*/?.webp", ["deep/c.webp"]),
        ("piles/m[!x]y/[ab].*", ["a.JPG", "b.png"]),
        ("*/may/b.png", ["b.png"]),
        ("piles/may/b.png", ["b.png"]),
    ],
)
def test_patterns_of_keys(pile_in_store: Store, pattern: str, found: list[str]) -> None:
    assert in_store(pile_in_store, GlobSource(pattern=f"{pile_in_store.url}/{pattern}", tasks=["text"])) == [
        (n, ["text"]) for n in found
    ]
