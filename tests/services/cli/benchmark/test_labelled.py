"""Loaders on small files in the published formats, and on what may be wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.cli.benchmark.labelled import load_benchmark
from shared.errors import InvalidInput

TEXTVQA: dict[str, Any] = {
    "question": "what is the brand of this camera?",
    "image_id": "003a8ae2ef43b901",
    "image_classes": ["Cassette deck"],
    "flickr_original_url": "https://example.org/a.jpg",
    "image_width": 1024,
    "image_height": 664,
    "answers": ["dakota"] * 9 + ["nous les gosses"],
    "question_tokens": ["what", "is"],
    "question_id": 34602,
    "set_name": "val",
}
STVQA: dict[str, Any] = {
    "question_id": 1,
    "file_name": "COCO_train2014_1.jpg",
    "file_path": "coco-text/COCO_train2014_1.jpg",
    "set_name": "train",
    "dataset": "coco-text",
    "question": "What is on the sign?",
    "answers": ["stop", "STOP"],
}
CHARTQA: dict[str, Any] = {"imgname": "41699051005347.png", "query": "How many bars?", "label": "14"}
QUESTIONS: dict[str, Any] = {
    "info": {},
    "data_type": "mscoco",
    "data_subtype": "val2014",
    "questions": [{"image_id": 297147, "question": "What sport?", "question_id": 2971475}],
}
ANNOTATIONS: dict[str, Any] = {
    "data_subtype": "val2014",
    "question_types": {"four": "Sports and Recreation"},
    "annotations": [
        {
            "image_id": 297147,
            "answer_type": "other",
            "question_type": "four",
            "question_id": 2971475,
            "answers": [{"answer_id": 1, "raw_answer": "racing", "answer_confidence": "yes", "answer": "race"}],
        }
    ],
}


def put(folder: Path, name: str, body: object) -> Path:
    path = folder / name
    path.write_text(json.dumps(body), encoding="utf-8")
    return path


def picture(folder: Path, name: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def test_textvqa(tmp_path: Path) -> None:
    picture(tmp_path, "003a8ae2ef43b901.jpg")
    path = put(tmp_path, "v.json", {"dataset_version": "0.5.1", "data": [TEXTVQA]})
    (item,) = load_benchmark("textvqa", [path], tmp_path, split="val")
    assert (item.id, item.question, len(item.answers)) == ("34602", TEXTVQA["question"], 10)
    assert item.image == tmp_path / "003a8ae2ef43b901.jpg"


def test_stvqa_groups_by_source(tmp_path: Path) -> None:
    picture(tmp_path, STVQA["file_path"])
    (item,) = load_benchmark("stvqa", [put(tmp_path, "t.json", {"data": [STVQA]})], tmp_path, split="train")
    assert (item.id, item.answers, item.type) == ("1", ("stop", "STOP"), "coco-text")


def test_chartqa_joins_both_files(tmp_path: Path) -> None:
    picture(tmp_path, CHARTQA["imgname"])
    paths = [put(tmp_path, f"test_{kind}.json", [CHARTQA]) for kind in ("human", "augmented")]
    items = load_benchmark("chartqa", paths, tmp_path, split="test")
    assert [(i.id, i.type, i.answers) for i in items] == [
        ("test-human-0", "human", ("14",)),
        ("test-augmented-0", "augmented", ("14",)),
    ]


@pytest.mark.parametrize("swapped", [False, True])
def test_okvqa_joins_questions_and_annotations(tmp_path: Path, swapped: bool) -> None:
    picture(tmp_path, "COCO_val2014_000000297147.jpg")
    paths = [put(tmp_path, "q.json", QUESTIONS), put(tmp_path, "a.json", ANNOTATIONS)]
    (item,) = load_benchmark("okvqa", paths[::-1] if swapped else paths, tmp_path, split="val2014")
    assert (item.id, item.answers, item.type) == ("2971475", ("race",), "Sports and Recreation")


def test_jsonl(tmp_path: Path) -> None:
    picture(tmp_path, "a.png")
    path = tmp_path / "b.jsonl"
    path.write_text('{"image": "a.png", "question": "q", "answers": ["x"], "type": "count"}\n\n', encoding="utf-8")
    (item,) = load_benchmark("jsonl", [path], tmp_path)
    assert (item.id, item.type) == ("b-1", "count")


def test_refuses_what_is_wrong_and_names_it(tmp_path: Path) -> None:
    picture(tmp_path, "003a8ae2ef43b901.jpg")
    hidden = {k: v for k, v in TEXTVQA.items() if k != "answers"}
    cases: list[tuple[object, str]] = [
        ({"data": [TEXTVQA, TEXTVQA]}, "34602 appears twice"),
        ({"data": [TEXTVQA | {"image_id": "gone"}]}, "gone.jpg"),
        ({"data": [hidden]}, "34602 has no answers"),
        ({"data": [TEXTVQA | {"set_name": "train"}]}, "split is 'train', not 'val'"),
        ({"data": [TEXTVQA | {"answers": "dakota"}]}, "list of texts"),
        ({"data": []}, "no question"),
        ({"data": [3]}, r"data\[0\]: an object"),
        ([TEXTVQA], "an object was expected"),
        ({"rows": []}, "must be a list"),
    ]
    for body, message in cases:
        with pytest.raises(InvalidInput, match=message):
            load_benchmark("textvqa", [put(tmp_path, "v.json", body)], tmp_path, split="val")
    unlabelled = put(tmp_path, "v.json", {"data": [hidden]})
    assert load_benchmark("textvqa", [unlabelled], tmp_path, needs_answers=False)[0].answers == ()


def test_refuses_unknown_unreadable_and_half_given(tmp_path: Path) -> None:
    broken = tmp_path / "test_human.json"
    broken.write_text("[{", encoding="utf-8")
    questions = put(tmp_path, "q.json", QUESTIONS)
    other = put(tmp_path, "a.json", ANNOTATIONS | {"data_subtype": "train2014"})
    for name, paths, message in [
        ("vqa", [broken], "no benchmark 'vqa'"),
        ("textvqa", [], "no annotation file"),
        ("chartqa", [broken], "not JSON"),
        ("chartqa", [questions], "_human.json"),
        ("jsonl", [tmp_path / "none"], "cannot be read"),
        ("okvqa", [questions], "annotations file"),
        ("okvqa", [questions, other], "one split"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            load_benchmark(name, paths, tmp_path)
