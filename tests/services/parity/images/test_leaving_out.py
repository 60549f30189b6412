"""What sources leave out is one rule for folders, zips and uploads, and is counted by reason."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from services.parity.images.leaving_out import MOST_REASONS, LeftOutCount, why_left_out
from services.parity.images.uploads import UploadLimits, store_upload
from shared.contracts import FolderSource, UploadSource
from shared.store import Store
from tests.services.parity.images.listing import images


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


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a/b.PNG", None),
        ("../pile/b.jpg", None),
        ("/abs/b.jpeg", None),
        (".b.png", "hidden file"),
        (".git/b.png", "hidden or a system's own (.git)"),
        ("a/__MACOSX/b.png", "hidden or a system's own (__MACOSX)"),
        ("a/pile.tar.gz", "archive (.gz): unpack it"),
        ("a/notes.TXT", "not an image format that is read (.txt)"),
        ("a/README", "not an image format that is read (no ending)"),
        ("a/train.parquet", "not an image format that is read (.parquet)"),
        ("a/\udcff.png", "name is not UTF-8: rename it"),
    ],
)
def test_the_reason_to_leave_a_file_out(name: str, reason: str | None) -> None:
    assert why_left_out(name) == reason


def test_tables_are_taken_where_they_are_asked_for() -> None:
    assert why_left_out("a/train.parquet", tables=True) is None
    assert why_left_out("a/data.ARROW", tables=True) is None


def test_reasons_are_counted_with_an_example_and_bounded() -> None:
    count = LeftOutCount()
    assert count.takes("a.png") and not count.takes("first.txt") and not count.takes("second.txt")
    for number in range(2 * MOST_REASONS):
        count.add(f"reason {number:02}", f"{number}.x")
    reasons = count.reasons()
    assert len(reasons) == MOST_REASONS + 1
    assert (reasons[0].reason, reasons[0].files) == ("other reasons", MOST_REASONS + 1)
    assert (reasons[1].reason, reasons[1].files, reasons[1].example) == (
        "not an image format that is read (.txt)",
        2,
        "first.txt",
    )
    assert count.words().startswith("21 × other reasons, such as 19.x; 2 × not an image")
    assert LeftOutCount().words() == ""
