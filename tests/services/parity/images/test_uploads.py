"""Uploads: limits count what comes out, and no name inside a zip is ever a path."""

from __future__ import annotations

import io
import zipfile

import pytest

from services.parity.images.uploads import UploadLimits, store_upload
from shared.errors import InvalidInput, MPAError, TooLarge
from shared.store import Store

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
