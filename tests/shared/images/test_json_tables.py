"""Lines of JSONL that hold images are found again by their number, however the file was written."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from PIL import Image

from shared.errors import InvalidInput
from shared.images.json_tables import cell_bytes, image_cell, json_references, line_starts
from shared.images.tables import TableImages
from tests.shared.images.picture_files import encoded

PICTURES = [encoded(Image.new("RGB", (8, 8), (number * 7 % 256, 9, 9))) for number in range(40)]
LARGE = encoded(Image.effect_noise((80, 80), 90))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def read(text: bytes, *rows: int, item: int | None = None) -> list[Any]:
    tables = TableImages()
    return [tables.cell("a.jsonl", row, item, lambda: nullcontext(io.BytesIO(text))) for row in rows]


@pytest.mark.parametrize(
    "cell",
    [
        {"bytes": b64(PICTURES[0]), "path": None},
        {"bytes": b64(PICTURES[0])},
        {"bytes": base64.encodebytes(PICTURES[0]).decode(), "path": "a.png"},
        {"bytes": base64.urlsafe_b64encode(PICTURES[0]).decode().rstrip("=")},
        {"bytes": f"data:image/png;base64,{b64(PICTURES[0])}"},
        {"bytes": list(PICTURES[0])},
        f"data:image/png;base64,{b64(PICTURES[0])}",
    ],
)
@pytest.mark.parametrize("name", ["image", "img", "jpg"])
def test_an_image_is_read_in_every_form(cell: object, name: str) -> None:
    line = json.dumps({name: cell, "question": "q"}).encode()
    assert list(json_references("a.jsonl", io.BytesIO(line)) or ()) == ["a.jsonl#0"]
    assert read(line, 0)[0]["bytes"] == PICTURES[0]


def test_bare_base64_is_longer_than_any_path() -> None:
    line = json.dumps({"image": b64(LARGE)}).encode()
    assert len(b64(LARGE)) > 4096 and read(line, 0)[0]["bytes"] == LARGE
    for path in ("a.png", "/9j/4AAQ.jpg", f"https://host/{'a' * 5000}.png"):
        assert image_cell({"image": path}) is None


def test_lists_of_images_have_items() -> None:
    line = json.dumps({"images": [{"bytes": b64(PICTURES[0])}, f"data:;base64,{b64(PICTURES[1])}"]}).encode()
    assert list(json_references("a.jsonl", io.BytesIO(line)) or ()) == ["a.jsonl#0.0", "a.jsonl#0.1"]
    assert read(line, 0, item=1)[0]["bytes"] == PICTURES[1]


LINES = [json.dumps({"image": {"bytes": b64(data)}, "note": "a\u2028b\x85"}, ensure_ascii=False) for data in PICTURES]


@pytest.mark.parametrize(
    "write",
    [
        lambda lines: "\n".join(lines),
        lambda lines: "\n".join(lines) + "\n",
        lambda lines: "\ufeff" + "\r\n".join(lines) + "\r\n",
        lambda lines: "\r".join(lines) + "\r",
    ],
)
def test_rows_are_lines_wherever_a_line_ends(write: Callable[[list[str]], str]) -> None:
    data = write(LINES).encode()
    assert len(list(json_references("a.jsonl", io.BytesIO(data)) or ())) == len(LINES)
    rows = [39, 0, 17, 16, 15, 31]
    assert [cell["bytes"] for cell in read(data, *rows)] == [PICTURES[row] for row in rows]


def test_blank_lines_count_and_hold_nothing() -> None:
    data = f"\n\n{LINES[0]}\n \n{LINES[1]}\n\n".encode()
    assert list(json_references("a.jsonl", io.BytesIO(data)) or ()) == ["a.jsonl#2", "a.jsonl#4"]
    assert [cell["bytes"] for cell in read(data, 2, 4)] == PICTURES[:2]


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) - 1, 3 << 20])
def test_a_line_end_may_fall_on_the_end_of_what_is_read_at_once(size: int) -> None:
    first = b'{"a": "' + b"x" * (size - 10) + b'"}'
    for end in (b"\r\n", b"\n", b"\r"):
        starts = line_starts(io.BytesIO(first + end + b"{}"))
        assert list(starts) == [0, len(first + end), len(first + end) + 2]


@pytest.mark.parametrize("text", [b"", b"\n\n", b'{"image": "a.png"}\n', b'{"question": "q"}', b"[1]\n", b"not JSON"])
def test_a_list_without_images_inside_is_not_a_table(text: bytes) -> None:
    assert json_references("a.jsonl", io.BytesIO(text)) is None


def test_a_line_that_cannot_be_read_ends_alone() -> None:
    data = "\n".join([LINES[0], "{broken", '{"image": {"bytes": "%%%"}}', '{"image": {"bytes": 5}}', LINES[1]]).encode()
    assert len(list(json_references("a.jsonl", io.BytesIO(data)) or ())) == 5
    assert [cell["bytes"] for cell in read(data, 0, 4)] == PICTURES[:2]
    for row, kind in ((1, ValueError), (2, InvalidInput), (3, InvalidInput), (9, LookupError)):
        with pytest.raises(kind):
            read(data, row)


def test_a_line_among_others_may_name_a_file() -> None:
    data = f'{LINES[0]}\n{{"file_name": "b.png"}}\n{{"image": {{"bytes": null, "path": "c.png"}}}}\n{{}}'.encode()
    assert [cell["path"] for cell in read(data, 1, 2, 3)] == ["b.png", "c.png", None]
    assert cell_bytes(None) == {"bytes": None, "path": None}
