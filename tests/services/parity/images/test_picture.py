"""Images that cannot be read end as rows with reasons, and the job goes on."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

from PIL import Image

from services.parity.images.picture import split_of
from services.parity.worker.shard import ShardWork
from shared.contracts import Split, Verdict
from shared.sets import read_set
from shared.store import Store
from tests.services.parity.collecting import Spec, Submit, collect
from tests.services.parity.conftest import png


async def test_bad_images_end_with_reasons_and_the_job_goes_on(
    work: ShardWork, store: Store, submit: Submit, spec: Spec, pile: Path, tmp_path: Path
) -> None:
    bad = {
        "broken.png": png(1)[:40],
        "zero.jpg": b"",
        "text.png": b"not an image",
        "tiny.png": png(1, (1, 1)),
        "bomb.png": _huge_header(),
        "lab.tif": _encoded(Image.new("LAB", (8, 8)), "TIFF"),
    }
    for name, data in bad.items():
        (pile / name).write_bytes(data)
    (tmp_path.parent / "outside.png").write_bytes(png(5))
    (pile / "link.png").symlink_to("/etc/hostname")
    (pile / "gone.png").symlink_to(pile / "nothing.png")
    job_id = await submit(spec())
    await collect(work, job_id)
    rows = read_set(store, job_id, verdicts=[Verdict.UNREADABLE_IMAGE]).to_pylist()
    reasons = {Path(row["image"]).name: row["reason"] for row in rows}
    assert reasons.keys() == {*bad, "link.png", "gone.png"}
    assert len(rows) == 2 * len(reasons)
    for name, words in {
        "zero.jpg": "0 bytes",
        "tiny.png": "too small",
        "bomb.png": "limit",
        "lab.tif": "CIELAB",
        "link.png": "outside the allowed",
        "gone.png": "does not exist",
    }.items():
        assert words in reasons[name], reasons[name]
    assert (await work.jobs.get(job_id)).pairs == 2 * (20 + len(reasons))


async def test_what_was_read_of_a_file_is_said(
    work: ShardWork, store: Store, submit: Submit, spec: Spec, pile: Path
) -> None:
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pages[0].save(pile / "scan.tif", save_all=True, append_images=pages[1:])
    pages[0].save(pile / "moving.gif", save_all=True, append_images=pages[1:])
    Image.new("CMYK", (8, 8)).save(pile / "printed.jpg")
    job_id = await submit(spec())
    await collect(work, job_id)
    notes = {Path(row["image"]).name: row["image_note"] for row in read_set(store, job_id).to_pylist()}
    said = {name: note for name, note in notes.items() if note}
    assert said == {
        "scan.tif": "the first page of a TIFF with several",
        "moving.gif": "the first frame of an animation",
        "printed.jpg": "approximate colours: CMYK without a print profile",
    }
    assert (await work.jobs.get(job_id)).image_notes == dict.fromkeys(said.values(), 1)


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _huge_header() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_the_same_bytes_are_always_on_the_same_side() -> None:
    sides = [split_of(str(n), 1, 0.25) for n in range(4000)]
    assert sides == [split_of(str(n), 1, 0.25) for n in range(4000)]
    assert sides != [split_of(str(n), 2, 0.25) for n in range(4000)]
    assert 0.22 < sides.count(Split.HELD_OUT) / 4000 < 0.28
