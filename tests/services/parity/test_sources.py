"""Image sources: order, tasks, links, and messages that name the line that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.parity.sources import SourceRules, list_images
from shared.contracts import FolderSource, GlobSource, ImageSource, ManifestSource
from shared.errors import Forbidden, InvalidInput
from shared.store import Store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "deep/c.webp", "notes.txt", ".hidden.png"):
        (folder / name).write_bytes(b"x")
    return folder


def images(root: Path, *sources: ImageSource, most: int = 100, urls: bool = False) -> list[tuple[str, list[str]]]:
    store = Store((root.parent / "store").as_uri())
    entries = list_images(sources, ["chart"], store, SourceRules([root], urls, most), "student")
    assert [entry.index for entry in entries] == list(range(len(entries)))
    return [(Path(entry.image).name, entry.tasks) for entry in entries]


def manifest(root: Path, *lines: object) -> ManifestSource:
    path = root / "manifest.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return ManifestSource(path=str(path))


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


def test_manifests_name_images_beside_them_and_tasks(root: Path) -> None:
    source = manifest(root, {"image": "b.png", "task": "text", "answers": ["1"]}, "", {"image": "deep/c.webp"})
    assert images(root, source) == [("b.png", ["text"]), ("c.webp", ["chart"])]
    pq.write_table(pa.table({"image": ["b.png"], "task": ["know"]}), root / "m.parquet")
    assert images(root, ManifestSource(path=str(root / "m.parquet"))) == [("b.png", ["know"])]


def test_an_image_named_twice_is_one_image_with_all_its_tasks(root: Path) -> None:
    sources = [FolderSource(path=str(root)), manifest(root, {"image": "b.png", "task": "text"})]
    assert ("b.png", ["chart", "text"]) in images(root, *sources)
    assert len(images(root, *sources)) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{broken", "Line 2 of .* not valid JSON"),
        ("[1]", "Line 2 of .* not a JSON object"),
        ({"picture": "b.png"}, "Line 2 of .* no text in 'image'"),
        ({"image": "b.png", "task": 3}, "Line 2 of .* 'task' that is no text"),
        ({"image": "../../etc/passwd"}, "Line 2 of .* outside the allowed"),
        ({"image": "http://h/a.png"}, "Line 2 of .* names a URL"),
    ],
)
def test_wrong_lines_are_named(root: Path, line: object, words: str) -> None:
    with pytest.raises((InvalidInput, Forbidden), match=words):
        images(root, manifest(root, {"image": "b.png"}, line))


def test_limits_and_links_that_lead_out(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="more than 2 images"):
        images(root, FolderSource(path=str(root)), most=2)
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(Forbidden, match="MPA_IMAGE_ROOTS"):
        images(root, FolderSource(path=str(root / "out")))
    with pytest.raises(InvalidInput, match="does not exist"):
        images(root, FolderSource(path=str(root / "nothing")))
