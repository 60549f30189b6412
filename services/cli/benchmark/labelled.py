"""Benchmarks as published: TextVQA v0.5.1, ST-VQA task 1, ChartQA, OK-VQA, and a generic JSONL.

Sources of the formats: textvqa.org (dataset JSON), rrc.cvc.uab.es challenge 11 (ST-VQA), github.com/vis-nlp/ChartQA
(``<split>_human.json``, ``<split>_augmented.json``), okvqa.allenai.org (VQA v2 questions and annotations); and the same
as Parquet or JSON Lines from Hugging Face (see hub_files). Labels are read for evaluation only: nothing on the way
from images to a checkpoint imports this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from services.cli.benchmark.hub_files import IMAGE, EmbeddedImage, ImageInLine, answer_texts, read_hub_rows
from services.cli.benchmark.hub_files import SUFFIXES as HUB_SUFFIXES
from services.cli.benchmark.hub_files import same_split as alike
from shared.errors import InvalidInput
from shared.images.json_tables import image_cell
from shared.vqa.labelled import Record, answers_of, as_object, read_json, read_lines, text_of
from shared.vqa.metrics import MetricName

BenchmarkName = Literal["textvqa", "stvqa", "chartqa", "okvqa", "jsonl"]
BENCHMARK_NAMES: tuple[str, ...] = get_args(BenchmarkName)
OFFICIAL_METRIC: Mapping[str, MetricName] = {
    "textvqa": "vqa",
    "stvqa": "anls",
    "chartqa": "relaxed",
    "okvqa": "vqa",
    "jsonl": "exact",
}


@dataclass(frozen=True)
class BenchmarkItem:
    """One question; ``answers`` is empty where labels are not public, ``type`` is what a breakdown groups by.

    ``task``: the task profile that its row names, if it names one.
    """

    id: str
    image: Path | EmbeddedImage | ImageInLine
    question: str
    answers: tuple[str, ...]
    type: str
    task: str = ""


def load_benchmark(
    name: str,
    annotations: list[Path],
    images: Path,
    *,
    split: str | None = None,
    needs_answers: bool = True,
) -> list[BenchmarkItem]:
    """All questions of ``annotations`` in file order.

    OK-VQA takes its questions file and its annotations file, in either order; the others any number of files. Raises
    InvalidInput, naming file and question, for an unknown benchmark, a file that is not in the published format, a
    split other than ``split``, duplicate ids, missing images, and missing answers unless ``needs_answers`` is False.
    """
    if name not in BENCHMARK_NAMES:
        raise InvalidInput(f"There is no benchmark {name!r}: use one of {', '.join(BENCHMARK_NAMES)}.")
    if not annotations:
        raise InvalidInput(f"{name}: no annotation file was given.")
    if name == "okvqa":
        published = [path for path in annotations if path.suffix not in HUB_SUFFIXES]
        items = list(_okvqa(published, images, split, needs_answers)) if published else []
        items += [item for path in annotations if path not in published for item in _hub(name, path, images, split)]
    else:
        read = _READERS[name]
        items = []
        for path in annotations:
            own = path.suffix not in HUB_SUFFIXES or (name == "jsonl" and path.suffix != ".parquet")
            items += read(path, images, split) if own else _hub(name, path, images, split)
    _check(name, items, needs_answers)
    return items


def _textvqa(path: Path, images: Path, split: str | None) -> Iterator[BenchmarkItem]:
    for where, record in _records(path, "data"):
        _same_split(where, text_of(record, "set_name", where), split)
        image = images / f"{text_of(record, 'image_id', where)}.jpg"
        yield _item(record, where, image, text_of(record, "question", where), "all")


def _stvqa(path: Path, images: Path, split: str | None) -> Iterator[BenchmarkItem]:
    for where, record in _records(path, "data"):
        _same_split(where, text_of(record, "set_name", where), split)
        image = images / text_of(record, "file_path", where)
        yield _item(record, where, image, text_of(record, "question", where), str(record.get("dataset", "all")))


def _chartqa(path: Path, images: Path, split: str | None) -> Iterator[BenchmarkItem]:
    """ChartQA has no ids and no split in its files: both come from the file's name and the record's position."""
    found, _, kind = path.stem.partition("_")
    if kind not in ("human", "augmented"):
        raise InvalidInput(f"{path}: a ChartQA file is named <split>_human.json or <split>_augmented.json.")
    _same_split(str(path), found, split)
    for index, (where, record) in enumerate(_records(path, None)):
        image = images / text_of(record, "imgname", where)
        answers = answer_texts(record.get("label"), where)
        yield BenchmarkItem(f"{found}-{kind}-{index}", image, text_of(record, "query", where), answers, kind)


def _hub(name: str, path: Path, images: Path, split: str | None) -> Iterator[BenchmarkItem]:
    """A file from Hugging Face: Parquet, or JSON Lines with its columns."""
    for row in read_hub_rows(path):
        if split is not None and row.split is not None and not alike(row.split, split):
            _same_split(row.where, row.split, split)
        image = row.image
        if image is None and row.record.get("image_id") is not None:
            number = str(row.record["image_id"])
            image = f"{number}.jpg" if name == "textvqa" else f"COCO_{row.split}2014_{number.zfill(12)}.jpg"
        if image is None:
            raise InvalidInput(f"{row.where}: the image is missing. Add a column {' or '.join(IMAGE)}.")
        found = images / image if isinstance(image, str) else image
        yield BenchmarkItem(row.id, found, row.question, row.answers, row.type, str(row.record.get("task") or ""))


def _jsonl(path: Path, images: Path, split: str | None) -> Iterator[BenchmarkItem]:
    """``{"image", "question", "answers": […], "question_id"?, "type"?, "split"?}`` on each line."""
    for number, where, record in read_lines(path):
        if "split" in record:
            _same_split(where, str(record["split"]), split)
        inside = image_cell(record) is not None
        image: Path | ImageInLine = ImageInLine(path, number) if inside else images / text_of(record, "image", where)
        record = {"question_id": f"{path.stem}-{number}"} | record
        item = _item(record, where, image, text_of(record, "question", where), str(record.get("type", "all")))
        yield replace(item, task=str(record.get("task") or ""))


def _okvqa(paths: list[Path], images: Path, split: str | None, needs_answers: bool) -> Iterator[BenchmarkItem]:
    parsed = [(path, as_object(read_json(path), str(path))) for path in paths]
    questions = [(path, body) for path, body in parsed if "questions" in body]
    labels = [(path, body) for path, body in parsed if "annotations" in body]
    if len(questions) != 1 or len(labels) > 1 or len(questions) + len(labels) != len(parsed):
        raise InvalidInput("okvqa: give one questions file and one annotations file (the latter only to score).")
    if needs_answers and not labels:
        raise InvalidInput(f"okvqa: {questions[0][0]} has no answers: give the annotations file too.")
    by_id: dict[str, Record] = {}
    types: Record = {}
    for path, body in labels:
        _same_split(str(path), str(body.get("data_subtype", "")), split)
        types = as_object(body.get("question_types", {}), f"{path}, question_types")
        for where, record in _listed(body, "annotations", path):
            key = text_of(record, "question_id", where)
            if key in by_id:
                raise InvalidInput(f"{where}: question_id {key} appears twice.")
            by_id[key] = record
    path, body = questions[0]
    subtype = str(body.get("data_subtype", ""))
    _same_split(str(path), subtype, split)
    if labels and str(labels[0][1].get("data_subtype", "")) != subtype:
        raise InvalidInput(
            f"{path} is of {subtype!r}, but {labels[0][0]} is of another split: give two files of one split."
        )
    for where, record in _listed(body, "questions", path):
        label = by_id.get(text_of(record, "question_id", where), {})
        number = text_of(record, "image_id", where)
        image = images / f"COCO_{subtype}_{number.zfill(12)}.jpg"
        kind = str(label.get("question_type", "all"))
        merged = record | {"answers": [_answer_text(a, where) for a in label.get("answers", [])]}
        yield _item(merged, where, image, text_of(record, "question", where), str(types.get(kind, kind)))


_READERS: dict[str, Callable[[Path, Path, str | None], Iterator[BenchmarkItem]]] = {
    "textvqa": _textvqa,
    "stvqa": _stvqa,
    "chartqa": _chartqa,
    "jsonl": _jsonl,
}


def _item(record: Record, where: str, image: Path | ImageInLine, question: str, kind: str) -> BenchmarkItem:
    return BenchmarkItem(text_of(record, "question_id", where), image, question, answers_of(record, where), kind)


def _check(name: str, items: list[BenchmarkItem], needs_answers: bool) -> None:
    if not items:
        raise InvalidInput(f"{name}: the annotation files hold no question.")
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise InvalidInput(f"{name}: question id {item.id} appears twice: give each file once.")
        seen.add(item.id)
        if needs_answers and not item.answers:
            raise InvalidInput(f"{name}: question {item.id} has no answers: only a labelled split can be scored.")
    missing = sorted({str(i.image) for i in items if isinstance(i.image, Path) and not i.image.is_file()})
    if missing:
        raise InvalidInput(f"{name}: {len(missing)} images are missing, the first is {missing[0]}: check the folder.")


def _same_split(where: str, found: str, wanted: str | None) -> None:
    if wanted is not None and found != wanted:
        raise InvalidInput(f"{where}: the split is {found!r}, not {wanted!r}: give the {wanted} file.")


def _records(path: Path, key: str | None) -> Iterator[tuple[str, Record]]:
    body = read_json(path)
    return _listed({"rows": body}, "rows", path) if key is None else _listed(as_object(body, str(path)), key, path)


def _listed(body: Record, key: str, path: Path) -> Iterator[tuple[str, Record]]:
    records = body.get(key)
    if not isinstance(records, list):
        raise InvalidInput(f"{path}: {key} must be a list of questions, as the benchmark publishes it.")
    for index, record in enumerate(records):
        where = f"{path}, {key}[{index}]"
        yield where, as_object(record, where)


def _answer_text(answer: object, where: str) -> str:
    return text_of(as_object(answer, where), "answer", where)
