"""Lists of images: relative paths, encodings, and messages that name the line that is wrong."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.contracts import ManifestSource
from shared.errors import Forbidden, InvalidInput
from shared.store import Store
from tests.services.parity.images.listing import images, in_store


def manifest(root: Path, *lines: object) -> ManifestSource:
    path = root / "manifest.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return ManifestSource(path=str(path))


def test_manifests_name_images_beside_them_and_tasks(root: Path) -> None:
    source = manifest(root, {"image": "b.png", "task": "text", "answers": ["1"]}, "", {"image": "deep/c.webp"})
    assert images(root, source) == [("b.png", ["text"]), ("c.webp", ["chart"])]
    pq.write_table(pa.table({"image": ["b.png"], "task": ["know"]}), root / "m.parquet")
    assert images(root, ManifestSource(path=str(root / "m.parquet"))) == [("b.png", ["know"])]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_manifests_from_windows_are_read(root: Path, encoding: str) -> None:
    source = manifest(root)
    Path(source.path).write_bytes('{"image": "b.png", "note": "a\u2028b"}\r\n\r\n{"image": "a.JPG"}'.encode(encoding))
    assert [name for name, _ in images(root, source)] == ["b.png", "a.JPG"]


def test_a_line_that_is_not_utf8_is_named(root: Path) -> None:
    source = manifest(root)
    Path(source.path).write_bytes(b'{"image": "b.png"}\n{"image": "\xe4.png"}')
    with pytest.raises(InvalidInput, match=r"Line 2 of .* 0xE4, as in a Latin-1 file; save the file as UTF-8"):
        images(root, source)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{broken", "Line 2 of .* not valid JSON"),
        ("[1]", "Line 2 of .* not a JSON object"),
        ({"picture": "b.png"}, "Line 2 of .* no text in 'image'"),
        ({"image": "b\0.png"}, "Line 2 of .* no text in 'image'"),
        ({"image": "\ud800.png"}, "Line 2 of .* no text in 'image'"),
        ({"image": "b.png", "task": 3}, "Line 2 of .* 'task' that is not text"),
        ({"image": "../../etc/passwd"}, "Line 2 of .* outside the allowed"),
        ({"image": "http://h/a.png"}, "Line 2 of .* names a URL"),
    ],
)
def test_wrong_lines_are_named(root: Path, line: object, words: str) -> None:
    with pytest.raises((InvalidInput, Forbidden), match=words):
        images(root, manifest(root, {"image": "b.png"}, line))


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_manifest_in_the_store_names_images_beside_it(pile_in_store: Store, root: Path, suffix: str) -> None:
    rows = [
        {"image": "b.png", "task": "text"},
        {"image": "./deep/../a.JPG", "task": None},
        {"image": pile_in_store.url_of("piles/may/deep/c.webp"), "task": "know"},
        {"image": str(root / "b.png"), "task": None},
    ]
    key = f"piles/may/list.{suffix}"
    if suffix == "jsonl":
        pile_in_store.write(key, "\n".join(json.dumps(row) for row in rows).encode())
    else:
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), buffer)
        pile_in_store.write(key, buffer.getvalue())
    assert in_store(pile_in_store, ManifestSource(path=pile_in_store.url_of(key)), (root,)) == [
        ("b.png", ["text"]),
        ("a.JPG", ["chart"]),
        ("deep/c.webp", ["know"]),
        (str(root / "b.png"), ["chart"]),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{broken", "Line 2 of .*piles/may/list.jsonl is not valid JSON"),
        ('{"image": "../../../etc/passwd"}', "Line 2 of .*list.jsonl names .* outside the artifact store"),
        ('{"image": "/etc/passwd"}', "Line 2 of .* outside the allowed image folders"),
        ('{"image": "s3://other/a.png"}', "Line 2 of .*: s3://other/a.png is outside the artifact store file://"),
        ('{"image": "STORE/../x.png"}', r"Line 2 of .*: .*/\.\./x.png contains '\.\.'"),
    ],
)
def test_wrong_lines_of_a_manifest_in_the_store_are_named(pile_in_store: Store, line: str, words: str) -> None:
    text = '{"image": "b.png"}\n' + line.replace("STORE", pile_in_store.url)
    pile_in_store.write("piles/may/list.jsonl", text.encode())
    with pytest.raises((InvalidInput, Forbidden), match=words):
        in_store(pile_in_store, ManifestSource(path=pile_in_store.url_of("piles/may/list.jsonl")))


def test_what_is_no_manifest_of_the_store_is_refused(pile_in_store: Store) -> None:
    pile_in_store.write("piles/may/list.parquet", b"PAR1 and no more")
    pile_in_store.write("piles/may/empty.jsonl", b"\n")
    for path, words in (
        (pile_in_store.url_of("piles/may/list.parquet"), "piles/may/list.parquet is not a readable Parquet file"),
        (pile_in_store.url_of("piles/may/empty.jsonl"), "manifest is empty"),
        (pile_in_store.url_of("piles/may/none.jsonl"), "is not in the artifact store"),
        (pile_in_store.url_of("piles/may"), "is not in the artifact store"),
        (pile_in_store.url, "the artifact store itself"),
        (f"{pile_in_store.url}/../list.jsonl", r"contains '\.\.'"),
    ):
        with pytest.raises(InvalidInput, match=words):
            in_store(pile_in_store, ManifestSource(path=path))
