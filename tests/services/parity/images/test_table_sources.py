"""Tables of images as Hugging Face lays them out: from the API to collected pairs."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.parity.images.access import SourceRules
from services.parity.images.leaving_out import LeftOutCount
from services.parity.images.sources import list_images
from services.parity.worker.shard import ShardWork
from shared.client import ParityClient
from shared.contracts import FolderSource, GlobSource, ImageSource, ManifestSource, Verdict
from shared.errors import Forbidden, InvalidInput
from shared.images import UnreadableImage
from shared.images.files import ImageFiles
from shared.sets import read_set
from shared.store import Store
from tests.services.parity.collecting import Spec, collect
from tests.services.parity.conftest import png

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ROWS = 40


def table(column: str = "image", first: int = 0) -> pa.Table:
    """Labels are beside the images, as in a published benchmark."""
    numbers = range(first, first + ROWS)
    images = [{"bytes": png(number), "path": f"{number}.png"} for number in numbers]
    labels = [f"label {number}" for number in numbers]
    return pa.table({column: pa.array(images, IMAGE), "question": labels, "answers": [[label] for label in labels]})


def write_arrow(path: Path, rows: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=7)


def found(root: Path, source: ImageSource, store: Store | None = None) -> tuple[list[bytes], list[str]]:
    """The bytes of all images of a source, read as a worker does, and the reasons of what is left out."""
    store = store or Store((root.parent / "store").as_uri())
    left_out = LeftOutCount()
    entries = list_images([source], ["chart"], store, SourceRules([root], False, 1000), "student", left_out)
    with ImageFiles(store, roots=[root], max_bytes=10**6, allow_urls=False) as files:
        return [files.read(entry.image) for entry in entries], [one.reason for one in left_out.reasons()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("group", [3, 16, 1000])
@pytest.mark.parametrize("column", ["image", "page"])
def test_a_parquet_file_of_images_is_a_manifest(root: Path, group: int, column: str) -> None:
    pq.write_table(table(column), root / "train.parquet", row_group_size=group)
    data, _ = found(root, ManifestSource(path=str(root / "train.parquet")))
    assert data == [png(number) for number in range(ROWS)]


def test_columns_of_bytes_and_of_lists_are_read(root: Path) -> None:
    pq.write_table(pa.table({"image": [png(0), png(1)], "task": ["text", None]}), root / "bytes.parquet")
    lists = pa.array([[{"bytes": png(2), "path": None}, {"bytes": png(3), "path": None}], [], None], pa.list_(IMAGE))
    pq.write_table(pa.table({"images": lists}), root / "lists.parquet")
    assert found(root, ManifestSource(path=str(root / "bytes.parquet")))[0] == [png(0), png(1)]
    assert found(root, ManifestSource(path=str(root / "lists.parquet")))[0] == [png(2), png(3)]


def test_a_folder_of_the_hub_gives_all_its_tables(root: Path) -> None:
    (root / "data").mkdir()
    for number, split in enumerate(("test", "train")):
        pq.write_table(table(first=ROWS * number), root / "data" / f"{split}-00000-of-00001.parquet")
    pq.write_table(pa.table({"image": ["a.png"]}), root / "data" / "list.parquet")
    (root / "data" / "broken.parquet").write_bytes(b"PAR1")
    data, reasons = found(root, FolderSource(path=str(root)))
    assert data == [png(number) for number in range(2 * ROWS)]
    assert reasons == ["table that cannot be read (ArrowInvalid)", "table without a column of images as bytes"]
    assert len(found(root, GlobSource(pattern=f"{root}/data/train-*"))[0]) == ROWS


def test_what_datasets_saved_to_disk_is_a_folder_of_images(root: Path) -> None:
    for number, split in enumerate(("train", "validation")):
        folder = root / split
        folder.mkdir()
        write_arrow(folder / "data-00000-of-00001.arrow", table(first=ROWS * number))
        write_arrow(folder / "cache-1a2b.arrow", table())
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
        (folder / "dataset_info.json").write_text("{}")
    (root / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    data, reasons = found(root, FolderSource(path=str(root)))
    assert data == [png(number) for number in range(2 * ROWS)]
    assert reasons == ["not an image format that is read (.json)", "cache of a saved dataset"]
    assert len(found(root, FolderSource(path=str(root / "train")))[0]) == ROWS


@pytest.mark.parametrize("url", ["file", "memory"])
def test_tables_in_the_store_are_read_in_place(root: Path, url: str) -> None:
    store = Store((root / "store").as_uri() if url == "file" else f"memory://{root.name}{id(root)}")
    sink = pa.BufferOutputStream()
    pq.write_table(table(), sink, row_group_size=10)
    store.write("piles/may/train.parquet", sink.getvalue().to_pybytes())
    for source in (
        FolderSource(path=store.url_of("piles/may")),
        GlobSource(pattern=store.url_of("piles/*/train*")),
        ManifestSource(path=store.url_of("piles/may/train.parquet")),
    ):
        assert found(root, source, store)[0] == [png(number) for number in range(ROWS)]


def test_rows_that_hold_no_bytes_name_a_file_beside_the_table_or_nothing(root: Path) -> None:
    (root / "a.png").write_bytes(png(1))
    (root.parent / "out.png").write_bytes(png(2))
    paths = ["a.png", "../out.png", None, "t.parquet#3"]
    cells = [*({"bytes": None, "path": path} for path in paths), None]
    pq.write_table(pa.table({"image": pa.array(cells, IMAGE)}), root / "t.parquet")
    (root / "broken.parquet").write_bytes(b"PAR1")
    bad = {
        "t.parquet#1": "outside the allowed",
        "t.parquet#2": "holds no image",
        "t.parquet#3": "instead of an image",
        "t.parquet#4": "holds no image",
        "t.parquet#9": "cannot be read",
        "broken.parquet#0": "cannot be read",
        "none.parquet#0": "cannot be read",
        f"{'n' * 5000}.parquet#0": "cannot be read",
    }
    with ImageFiles(Store((root / "s").as_uri()), roots=[root], max_bytes=10**6, allow_urls=False) as files:
        assert files.read(f"{root}/t.parquet#0") == png(1)
        for name, words in bad.items():
            with pytest.raises(UnreadableImage, match=words):
                files.read(f"{root}/{name}")


def test_lists_in_hugging_faces_layout_name_paths(root: Path) -> None:
    for number in range(2):
        (root / f"{number}.png").write_bytes(png(number))
    lines = [{"image": {"bytes": None, "path": "0.png"}, "answer": "x"}, {"file_name": "1.png", "label": 3}]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert found(root, ManifestSource(path=str(root / "metadata.jsonl")))[0] == [png(0), png(1)]


def test_a_table_outside_the_allowed_folders_is_forbidden(root: Path) -> None:
    pq.write_table(table(), root.parent / "out.parquet")
    with pytest.raises(Forbidden):
        found(root, ManifestSource(path=str(root.parent / "out.parquet")))


@pytest.mark.parametrize("kind", ["folder", "manifest"])
async def test_a_job_collects_a_table_and_reads_no_label(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "hub").mkdir()
    pq.write_table(table().slice(0, 12), tmp_path / "hub" / "train.parquet", row_group_size=5)
    path = tmp_path / "hub" / ("train.parquet" if kind == "manifest" else "")
    job = await api.submit(spec(images={"kind": kind, "path": str(path)}))
    assert job.images.total == 12
    await collect(work, job.id)
    rows: list[dict[str, Any]] = read_set(store, job.id).to_pylist()
    assert {row["image"] for row in rows} == {f"{tmp_path}/hub/train.parquet#{number}" for number in range(12)}
    assert Verdict.UNREADABLE_IMAGE not in {row["verdict"] for row in rows}
    assert "label" not in json.dumps(rows, default=str)


def lines_of_images(first: int = 0) -> str:
    images = [png(number) for number in range(first, first + ROWS)]
    lines = [{"image": {"bytes": base64.b64encode(data).decode(), "path": None}, "label": "label"} for data in images]
    return "\n".join(map(json.dumps, lines)) + "\n"


@pytest.mark.parametrize("url", ["file", "memory"])
def test_jsonl_with_images_inside_is_a_manifest_and_part_of_a_folder(root: Path, url: str) -> None:
    store = Store((root / "store").as_uri() if url == "file" else f"memory://{root.name}{id(root)}")
    (root / "pile").mkdir()
    (root / "pile" / "train.jsonl").write_text(lines_of_images())
    (root / "pile" / "names.jsonl").write_text('{"image": "a.png"}\n')
    store.write("piles/train.jsonl", lines_of_images().encode())
    for source in (
        ManifestSource(path=str(root / "pile" / "train.jsonl")),
        FolderSource(path=str(root / "pile")),
        ManifestSource(path=store.url_of("piles/train.jsonl")),
        FolderSource(path=store.url_of("piles")),
        GlobSource(pattern=store.url_of("piles/*.jsonl")),
    ):
        data, reasons = found(root, source, store)
        assert data == [png(number) for number in range(ROWS)]
        names = isinstance(source, FolderSource) and source.path == str(root / "pile")
        assert reasons == (["list without images inside: name it as a manifest"] if names else [])


def test_lines_with_images_inside_and_names_of_files_may_be_mixed(root: Path) -> None:
    (root / "a.png").write_bytes(png(77))
    first, second, *_ = lines_of_images().splitlines()
    (root / "list.jsonl").write_text(f'{first}\n\n{{"image": "a.png"}}\n{second}\n')
    assert found(root, ManifestSource(path=str(root / "list.jsonl")))[0] == [png(0), png(77), png(1)]


def test_a_list_with_images_inside_keeps_its_tasks(root: Path) -> None:
    lines = [
        json.loads(line) | {"task": task} for line, task in zip(lines_of_images().splitlines(), "ab", strict=False)
    ]
    (root / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rules = SourceRules([root], False, 1000)
    entries = list_images(
        [ManifestSource(path=str(root / "list.jsonl"))], ["c"], Store(root.as_uri()), rules, "student"
    )
    assert [(entry.image, entry.tasks) for entry in entries] == [
        (f"{root}/list.jsonl#0", ["a"]),
        (f"{root}/list.jsonl#1", ["b"]),
    ]


def test_a_list_with_images_inside_must_be_called_jsonl(root: Path) -> None:
    (root / "list.txt").write_text(lines_of_images())
    with pytest.raises(InvalidInput, match=r"Line 1 of .*list\.txt holds the image itself.*ends in \.jsonl"):
        found(root, ManifestSource(path=str(root / "list.txt")))
