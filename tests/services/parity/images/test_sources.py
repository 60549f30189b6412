"""Image sources: order, tasks, links, and messages that name the line that is wrong."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.parity.images.access import SourceRules
from services.parity.images.leaving_out import LeftOutCount
from services.parity.images.sources import list_images
from services.parity.images.uploads import UploadLimits, store_upload
from shared.contracts import FolderSource, GlobSource, ImageSource, ManifestSource, UploadSource
from shared.errors import Forbidden, InvalidInput
from shared.store import Store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "deep/c.webp", "notes.txt", ".hidden.png"):
        (folder / name).write_bytes(b"x")
    return folder


def images(
    root: Path, *sources: ImageSource, most: int = 100, urls: bool = False, left_out: LeftOutCount | None = None
) -> list[tuple[str, list[str]]]:
    store = Store((root.parent / "store").as_uri())
    entries = list_images(sources, ["chart"], store, SourceRules([root], urls, most), "student", left_out)
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


def test_a_bad_name_is_left_out_and_refuses_nothing(root: Path) -> None:
    for name in (b"/\xff.png", b"/caf\xe9.jpg"):
        Path(os.fsdecode(os.fsencode(root) + name)).write_bytes(b"x")
    left_out = LeftOutCount()
    assert len(images(root, FolderSource(path=str(root)), left_out=left_out)) == 3
    assert {one.reason: (one.files, one.example) for one in left_out.reasons()} == {
        "name is not UTF-8: rename it": (2, "caf\\udce9.jpg"),
        "hidden file": (1, ".hidden.png"),
        "not an image format that is read (.txt)": (1, "notes.txt"),
    }


def test_a_folder_leaves_out_what_its_zip_leaves_out(root: Path) -> None:
    taken = ["a.JPG", "b.png", "c.webp", "d.jfif", "e.HEIC", "f.avif", "g.mpo"]
    for name in (
        *(
            ".git/x.png",
            ".thumbnails/x.png",
            ".ipynb_checkpoints/x.png",
            "deep/@eaDir/b.png/thumb.jpg",
            "__MACOSX/b.png",
        ),
        *(".DS_Store", "Thumbs.db", "._b.png", "$RECYCLE.BIN/x.png", "lost+found/x.png", ".Trash-1000/x.png"),
        *("#recycle/x.png", ".@__thumb/x.png", "old.zip", "old.tar.gz", "raw.CR2", "README", *taken[3:]),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in root.rglob("*"):
            archive.write(path, path.relative_to(root))
    store = Store((root.parent / "store").as_uri())
    receipt = store_upload([("pile.zip", packed)], store, UploadLimits(10**6, 10**6, 100))
    left_out = LeftOutCount()
    assert sorted(name for name, _ in images(root, FolderSource(path=str(root)), left_out=left_out)) == taken
    found = {one.reason: one.files for one in left_out.reasons()}
    assert receipt.images == len(taken) and {one.reason: one.files for one in receipt.left_out} == found
    assert sum(found.values()) == len([path for path in root.rglob("*") if path.is_file()]) - len(taken)
    again = LeftOutCount()
    assert len(images(root, UploadSource(upload_id=receipt.upload_id), left_out=again)) == len(taken)
    assert again.reasons() == receipt.left_out


def test_links_to_folders_and_the_reasons_for_an_empty_source_are_said(root: Path, tmp_path: Path) -> None:
    bare = root / "bare"
    bare.mkdir()
    (bare / "a.cr2").write_bytes(b"x")
    (bare / "link").symlink_to(tmp_path)
    with pytest.raises(
        InvalidInput, match=r"holds no images: .* Left out: .*link to a folder.*1 × not an image .*\.cr2"
    ):
        images(root, FolderSource(path=str(bare)))


def test_limits_and_links_that_lead_out(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="more than 2 images"):
        images(root, FolderSource(path=str(root)), most=2)
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(Forbidden, match="MPA_IMAGE_ROOTS"):
        images(root, FolderSource(path=str(root / "out")))
    with pytest.raises(InvalidInput, match="does not exist"):
        images(root, FolderSource(path=str(root / "nothing")))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a pile: outside the allowed folders, so that only its URLs lead to it."""
    store = Store((tmp_path / "store").as_uri())
    for name in ("b.png", "a.JPG", "deep/c.webp", "deep/er/d.png", "notes.txt", ".hidden.png"):
        store.write(f"piles/may/{name}", b"x")
    store.write("piles/june/e.png", b"x")
    return store


def in_store(store: Store, source: ImageSource, roots: tuple[Path, ...] = ()) -> list[tuple[str, list[str]]]:
    """Images by what follows the pile's URL, with their tasks."""
    entries = list_images([source], ["chart"], store, SourceRules(roots, False, 100), "student")
    return [(entry.image.removeprefix(store.url_of("piles/may") + "/"), entry.tasks) for entry in entries]


def test_a_prefix_of_the_store_is_a_folder(store: Store) -> None:
    url = store.url_of("piles/may")
    every = ["a.JPG", "b.png", "deep/c.webp", "deep/er/d.png"]
    assert [name for name, _ in in_store(store, FolderSource(path=url))] == every
    assert [name for name, _ in in_store(store, FolderSource(path=f"{url}/", recursive=False))] == every[:2]
    assert len(in_store(store, FolderSource(path=store.url))) == len(every) + 1


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
def test_patterns_of_keys(store: Store, pattern: str, found: list[str]) -> None:
    assert in_store(store, GlobSource(pattern=f"{store.url}/{pattern}", tasks=["text"])) == [
        (n, ["text"]) for n in found
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_manifest_in_the_store_names_images_beside_it(store: Store, root: Path, suffix: str) -> None:
    rows = [
        {"image": "b.png", "task": "text"},
        {"image": "./deep/../a.JPG", "task": None},
        {"image": store.url_of("piles/may/deep/c.webp"), "task": "know"},
        {"image": str(root / "b.png"), "task": None},
    ]
    key = f"piles/may/list.{suffix}"
    if suffix == "jsonl":
        store.write(key, "\n".join(json.dumps(row) for row in rows).encode())
    else:
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), buffer)
        store.write(key, buffer.getvalue())
    assert in_store(store, ManifestSource(path=store.url_of(key)), (root,)) == [
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
def test_wrong_lines_of_a_manifest_in_the_store_are_named(store: Store, line: str, words: str) -> None:
    text = '{"image": "b.png"}\n' + line.replace("STORE", store.url)
    store.write("piles/may/list.jsonl", text.encode())
    with pytest.raises((InvalidInput, Forbidden), match=words):
        in_store(store, ManifestSource(path=store.url_of("piles/may/list.jsonl")))


def test_what_is_no_manifest_of_the_store_is_refused(store: Store) -> None:
    store.write("piles/may/list.parquet", b"PAR1 and no more")
    store.write("piles/may/empty.jsonl", b"\n")
    for path, words in (
        (store.url_of("piles/may/list.parquet"), "piles/may/list.parquet is not a readable Parquet file"),
        (store.url_of("piles/may/empty.jsonl"), "manifest is empty"),
        (store.url_of("piles/may/none.jsonl"), "is not in the artifact store"),
        (store.url_of("piles/may"), "is not in the artifact store"),
        (store.url, "the artifact store itself"),
        (f"{store.url}/../list.jsonl", r"contains '\.\.'"),
    ):
        with pytest.raises(InvalidInput, match=words):
            in_store(store, ManifestSource(path=path))


@pytest.mark.parametrize("url", ["s3://other/pile", "https://host/list.jsonl", "file:///etc", "STORE-2/pile"])
def test_urls_outside_the_store_are_forbidden(store: Store, url: str) -> None:
    url = url.replace("STORE", store.url)
    for source in (FolderSource(path=url), GlobSource(pattern=f"{url}/*.png"), ManifestSource(path=url)):
        with pytest.raises(Forbidden, match=r"outside the artifact store .* \(MPA_STORE\)"):
            in_store(store, source)
