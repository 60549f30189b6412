"""Uploads: limits count what comes out, and no name inside a zip is ever a path."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.parity.images.access import SourceRules
from services.parity.images.sources import list_images
from services.parity.images.uploads import UploadLimits, store_upload
from shared.contracts import UploadSource
from shared.errors import InvalidInput, MPAError, TooLarge
from shared.images.files import ImageFiles
from shared.store import Store
from tests.services.parity.conftest import png

LIMITS = UploadLimits(total=5_000, image=2_000, count=5)


def archive(*members: tuple[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            file.writestr(name, data)
    buffer.seek(0)
    return buffer


@pytest.fixture
def store(tmp_store_url: str) -> Store:
    return Store(tmp_store_url)


def test_names_are_ours(store: Store) -> None:
    receipt = store_upload([("a.zip", archive(("../../x.png", b"1"), ("/etc/y.JPG", b"22")))], store, LIMITS)
    keys = store.list(f"uploads/{receipt.upload_id}")
    assert [key.rsplit("/", 1)[1] for key in keys] == ["0000000.png", "0000001.jpg", "receipt.json"]
    assert (receipt.images, receipt.bytes) == (2, 3)


@pytest.mark.parametrize(
    ("files", "kind", "words"),
    [
        ([("bomb.zip", archive(("a.png", bytes(100_000))))], TooLarge, "'a.png' in 'bomb.zip' has more than 2000"),
        ([("many.zip", archive(*((f"{n}.png", b"x") for n in range(6))))], TooLarge, "more than 5 images"),
        (
            [("big.zip", archive(*((f"{n}.png", bytes(1_900)) for n in range(3))))],
            TooLarge,
            "images of the upload are larger",
        ),
        ([("none.zip", archive(("a.txt", b"x")))], InvalidInput, "holds no images"),
        ([("a.exe", io.BytesIO(b"MZ"))], InvalidInput, "neither a zip nor an image"),
        ([("cut.zip", io.BytesIO(archive(("a.png", bytes(range(256)))).getvalue()[:60] + b"PK"))], InvalidInput, "zip"),
    ],
)
def test_bad_uploads_are_refused_and_leave_nothing(
    store: Store, files: list[tuple[str, io.BytesIO]], kind: type[MPAError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        store_upload(files, store, LIMITS)
    assert store.list("uploads") == []


def test_a_damaged_member_is_refused(store: Store) -> None:
    data = bytearray(archive(("a.png", bytes(range(256)) * 4)).getvalue())
    data[60] ^= 0xFF
    with pytest.raises(InvalidInput, match="damaged"):
        store_upload([("a.zip", io.BytesIO(bytes(data)))], store, LIMITS)


def tables() -> dict[str, bytes]:
    """Two images in each kind of table."""
    images = pa.table({"image": [png(0), png(1)]})
    parquet, arrow = pa.BufferOutputStream(), pa.BufferOutputStream()
    pq.write_table(images, parquet)
    with pa.ipc.new_stream(arrow, images.schema) as writer:
        writer.write_table(images)
    lines = [json.dumps({"image": {"bytes": base64.b64encode(png(number)).decode()}}) for number in range(2)]
    return {
        "data/train.parquet": parquet.getvalue().to_pybytes(),
        "data-00000.arrow": arrow.getvalue().to_pybytes(),
        "list.jsonl": "\n".join(lines).encode(),
    }


@pytest.mark.parametrize("name", list(tables()))
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("url", ["file", "memory"])
def test_tables_of_images_are_read_out_of_an_upload(name: str, zipped: bool, url: str, tmp_path: Path) -> None:
    store = Store((tmp_path / "store").as_uri() if url == "file" else f"memory://{tmp_path.name}")
    data = tables()[name]
    given = [("a.zip", archive((name, data), ("b.png", png(2))))] if zipped else [(name, io.BytesIO(data))]
    receipt = store_upload(given, store, LIMITS)
    rules = SourceRules([], False, 10)
    entries = list_images([UploadSource(upload_id=receipt.upload_id)], ["chart"], store, rules, "student")
    with ImageFiles(store, roots=[], max_bytes=10**6, allow_urls=False) as files:
        read = sorted(files.read(entry.image) for entry in entries)
    assert read == sorted(png(number) for number in range(3 if zipped else 2))
    assert receipt.images == len(entries) and receipt.left_out == []


def test_tables_without_images_are_left_out_of_an_upload_by_reason(store: Store) -> None:
    answers = pa.BufferOutputStream()
    pq.write_table(pa.table({"answer": ["a"]}), answers)
    members = [("a.png", png(0)), ("names.jsonl", b'{"image": "a.png"}'), ("broken.parquet", b"PAR1")]
    members.append(("answers.parquet", answers.getvalue().to_pybytes()))
    receipt = store_upload([("a.zip", archive(*members))], store, LIMITS)
    assert receipt.images == 1
    assert {one.reason: one.example for one in receipt.left_out} == {
        "list without images inside: name it as a manifest": "'names.jsonl' in 'a.zip'",
        "table that cannot be read (ArrowInvalid)": "'broken.parquet' in 'a.zip'",
        "table without a column of images as bytes": "'answers.parquet' in 'a.zip'",
    }
    assert len(store.list(f"uploads/{receipt.upload_id}")) == 2


def test_the_images_in_a_table_count(store: Store) -> None:
    few = UploadLimits(total=5_000, image=10, count=1)
    with pytest.raises(TooLarge, match="more than 1 images"):
        store_upload([("a.zip", archive(("train.parquet", tables()["data/train.parquet"])))], store, few)
