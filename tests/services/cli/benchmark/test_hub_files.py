"""The four benchmarks as Hugging Face publishes them, in small files with the published columns."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.cli.benchmark.hub_files import EmbeddedImage, answer_texts
from services.cli.benchmark.labelled import BenchmarkItem, load_benchmark
from shared.errors import InvalidInput

PNG = b"\x89PNG\r\n\x1a\nrest"
IMAGE = {"bytes": PNG, "path": "a.png"}


def parquet(path: Path, rows: list[dict[str, Any]], group: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return path


def load(name: str, path: Path, **more: Any) -> list[BenchmarkItem]:
    return load_benchmark(name, [path], path.parent, **more)


def test_chartqa_of_two_publishers(tmp_path: Path) -> None:
    rows = [{"image": IMAGE, "query": f"Q{n}?", "label": [str(n)], "human_or_machine": n % 2} for n in range(5)]
    items = load("chartqa", parquet(tmp_path / "test-00000-of-00001-e2cd0b7a.parquet", rows), split="test")
    assert [(one.question, one.answers, one.type) for one in items[:2]] == [
        ("Q0?", ("0",), "human"),
        ("Q1?", ("1",), "augmented"),
    ]
    assert [one.image.read_bytes() for one in items] == [PNG] * 5
    assert len({one.id for one in items}) == 5
    other = [{"type": "human_test", "question": "Q?", "answer": "14", "image": IMAGE}]
    (item,) = load("chartqa", parquet(tmp_path / "lmms" / "test.parquet", other))
    assert (item.answers, item.type) == (("14",), "human")


def test_textvqa(tmp_path: Path) -> None:
    row = {"image_id": "003a", "question_id": 34602, "question": "q?", "set_name": "val", "image": IMAGE}
    rows = [row | {"answers": ["nokia"] * 10}, row | {"question_id": 34603, "answers": ["", "x"]}]
    items = load("textvqa", parquet(tmp_path / "validation-00000-of-00003.parquet", rows), split="val")
    assert items[0].answers == ("nokia",) * 10 and items[1].answers == ("x",) and items[0].id == "34602"
    assert load("textvqa", tmp_path / "validation-00000-of-00003.parquet", split="validation") == items
    with pytest.raises(InvalidInput, match="the split is 'val', not 'test'"):
        load("textvqa", tmp_path / "validation-00000-of-00003.parquet", split="test")


def test_labels_that_are_not_public_are_no_answers(tmp_path: Path) -> None:
    rows = [{"question_id": 1, "question": "q?", "image": IMAGE, "answers": ["", ""]}]
    path = parquet(tmp_path / "test.parquet", rows)
    with pytest.raises(InvalidInput, match="question 1 has no answers"):
        load("textvqa", path)
    assert load("textvqa", path, needs_answers=False)[0].answers == ()


def test_okvqa(tmp_path: Path) -> None:
    of_objects = [
        {"answer": "pony tail", "raw_answer": "pony tail", "answer_id": 1},
        {"answer": "braid", "answer_id": 2},
    ]
    row = {"question": "q?", "image": IMAGE, "question_type": "six", "answer_type": "other"}
    rows = [row | {"question_id": "1", "answers": of_objects}, row | {"question_id": "2", "answers": of_objects[:1]}]
    items = load("okvqa", parquet(tmp_path / "val2014.parquet", rows))
    assert items[0].answers == ("pony tail", "braid") and items[0].type == "six"


def test_stvqa_with_several_questions_about_an_image(tmp_path: Path) -> None:
    rows = [{"image": IMAGE, "qas": [{"question": "a?", "answers": ["1", "2"]}, {"question": "b?", "answers": ["3"]}]}]
    items = load("stvqa", parquet(tmp_path / "train.parquet", rows))
    assert [(one.question, one.answers) for one in items] == [("a?", ("1", "2")), ("b?", ("3",))]
    assert len({one.id for one in items}) == 2


def test_json_lines_with_the_same_columns(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    rows = [{"image": {"path": "a.png"}, "query": "q?", "label": ["2\u2028x"], "human_or_machine": 1}]
    path = tmp_path / "test.jsonl"
    path.write_text("\ufeff" + "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    (item,) = load("chartqa", path, split="test")
    assert item.image == tmp_path / "a.png" and item.answers == ("2\u2028x",) and item.type == "augmented"


@pytest.mark.parametrize("benchmark", ["chartqa", "jsonl"])
@pytest.mark.parametrize("in_list", [False, True])
def test_json_lines_with_images_inside(tmp_path: Path, benchmark: str, in_list: bool) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    name = "images" if in_list else "image"
    held = [PNG + bytes([number]) for number in range(20)]
    cells = [{"bytes": base64.b64encode(data).decode(), "path": None} for data in held]
    rows = [
        {name: [cell] if in_list else cell, "question": f"{number}?", "answers": ["1"]}
        for number, cell in enumerate(cells)
    ]
    lines = [*map(json.dumps, rows), "", json.dumps({"image": "a.png", "question": "last?", "answers": ["1"]})]
    path = tmp_path / "test.jsonl"
    path.write_text("\r\n".join(lines))
    items = load(benchmark, path)
    assert [item.image.read_bytes() for item in items] == [*held, PNG]
    assert str(items[3].image) == f"{path}, line 4"


def test_an_image_inside_that_is_not_base64_is_named(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({"image": {"bytes": "%%%"}, "question": "a?", "answers": ["1"]}))
    (item,) = load("jsonl", path)
    with pytest.raises(InvalidInput, match="not valid base64"):
        item.image.read_bytes()


def test_official_chartqa_exports_with_list_shaped_labels(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    path = tmp_path / "test_human.json"
    rows = [{"imgname": "a.png", "query": "q?", "label": label} for label in (["14"], "14", 14, [14.0], ["yes", "no"])]
    path.write_text(json.dumps(rows))
    assert [one.answers for one in load("chartqa", path)] == [("14",)] * 4 + [("yes", "no")]


@pytest.mark.parametrize(
    ("value", "answers"),
    [
        (None, ()),
        ("", ()),
        ("a", ("a",)),
        (3, ("3",)),
        (2.5, ("2.5",)),
        (2.0, ("2",)),
        (["a", 3], ("a", "3")),
        ([{"answer": "a"}, {"answer": "b"}], ("a", "b")),
        ({"answer": ["a", "b"], "answer_id": [1, 2]}, ("a", "b")),
        ({"text": ["a"], "answer_start": [0]}, ("a",)),
    ],
)
def test_answers_in_every_published_shape(value: object, answers: tuple[str, ...]) -> None:
    assert answer_texts(value, "row 1") == answers


@pytest.mark.parametrize("value", [True, {"other": 1}, [[True]]])
def test_other_shapes_are_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidInput, match="row 1: "):
        answer_texts(value, "row 1")


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "test.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(InvalidInput, match=r"test\.parquet cannot be read as Parquet"):
        load("chartqa", tmp_path / "test.parquet")
    with pytest.raises(InvalidInput, match="row 1: the question is missing"):
        load("chartqa", parquet(tmp_path / "a" / "test.parquet", [{"image": IMAGE, "label": ["1"]}]))
    with pytest.raises(InvalidInput, match="row 1: the image is missing"):
        load("chartqa", parquet(tmp_path / "b" / "test.parquet", [{"query": "q?", "label": ["1"]}]))
    (item,) = load(
        "chartqa",
        parquet(
            tmp_path / "c" / "test.parquet", [{"query": "q?", "label": ["1"], "image": {"bytes": b"", "path": "x"}}]
        ),
    )
    assert isinstance(item.image, EmbeddedImage)
    with pytest.raises(InvalidInput, match="row 1: the column 'image' holds no image"):
        item.image.read_bytes()
