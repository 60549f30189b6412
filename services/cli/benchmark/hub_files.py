"""Benchmarks as Hugging Face publishes them: Parquet with the images inside, or JSON Lines with the same columns.

The columns differ from one publisher to the next, so the known names of each are tried in turn:
``HuggingFaceM4/ChartQA`` (``query``, ``label`` as a list, ``human_or_machine``), ``lmms-lab/ChartQA`` (``question``,
``answer``, ``type``), ``facebook/textvqa`` (``answers`` as ten texts), ``lmms-lab/OK-VQA`` (``answers``,
``question_type``), VQA v2's answers (objects, or one object of lists), ``vikhyatk/st-vqa`` (``qas``: several questions
about one image).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import InvalidInput
from shared.images.json_tables import image_cell
from shared.images.tables import TableImages
from shared.vqa.labelled import Record, as_object, read_lines

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

SUFFIXES = (".parquet", ".jsonl")
QUESTION = ("question", "query", "Question")
ANSWERS = ("answers", "answer", "label", "labels", "direct_answers")
ID = ("question_id", "questionId", "qid", "id", "sample_id")
TYPE = ("type", "human_or_machine", "question_type", "dataset")
IMAGE = ("image", "images", "imgname", "file_path", "file_name", "image_path")
_IN_OBJECTS = ("answer", "answers", "text")
_KINDS = {"0": "human", "1": "augmented", "machine": "augmented"}
_SPLIT = re.compile(r"(?:^|[-_.])(train|val|validation|dev|test)(?:[-_.]|$)")
ROW_GROUPS_KEPT = 2
_LINES = TableImages()


@dataclass(frozen=True)
class EmbeddedImage:
    """An image inside a Parquet file. Its bytes are read when they are needed."""

    file: Path
    column: str
    row_group: int
    row: int
    """Within the row group."""
    name: str

    def read_bytes(self) -> bytes:
        """Raises InvalidInput if the row holds no image."""
        data = _bytes_of(_row_group(self.file, self.column, self.row_group)[self.row])
        if data is None:
            raise InvalidInput(f"{self.file}, {self.name}: the column {self.column!r} holds no image.")
        return data

    def __str__(self) -> str:
        return f"{self.file}, {self.name}"


@dataclass(frozen=True)
class ImageInLine:
    """An image that a line of a JSONL file holds as base64; ``line`` from 1."""

    file: Path
    line: int

    def read_bytes(self) -> bytes:
        """Raises InvalidInput if the text is not base64."""
        # The name is only a key. Its ending says that the content is JSONL, whatever the file's own name.
        cell = _LINES.cell(f"{self.file}.jsonl", self.line - 1, None, lambda: self.file.open("rb"))
        data = _bytes_of(cell)
        if data is None:
            raise InvalidInput(f"{self}: the line holds no image.")
        return data

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


@dataclass(frozen=True)
class HubRow:
    """One question of a row, in the words of the loaders."""

    where: str
    id: str
    question: str
    answers: tuple[str, ...]
    image: str | EmbeddedImage | ImageInLine | None
    """A name in the images' folder, an image inside the file, or None."""
    type: str
    split: str | None
    record: Record


def read_hub_rows(path: Path) -> Iterator[HubRow]:
    """The questions of ``path`` (Parquet or JSON Lines) in file order. Raises InvalidInput that names file and row."""
    split = _SPLIT.search(path.stem)
    rows: Iterator[tuple[int, str, Record, Any]] = (
        _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)
    )
    for number, where, record, image in rows:
        nested = record.get("qas")
        inner = [record | as_object(one, where) for one in nested] if isinstance(nested, list) else [record]
        for index, one in enumerate(inner):
            made = f"{path.stem}-{number}" + (f"-{index}" if len(inner) > 1 else "")
            asked, answers = _question(one, where), _answers(one, where)
            found = _split_of(one, split[1] if split else None)
            yield HubRow(where, _id(one, made), asked, answers, image, _type(one), found, one)


def same_split(found: str, wanted: str) -> bool:
    """Publishers write ``val``, ``validation`` and ``dev`` for the same split."""
    alike = {"validation": "val", "dev": "val"}
    return alike.get(found, found) == alike.get(wanted, wanted)


def answer_texts(value: object, where: str) -> tuple[str, ...]:
    """Reference answers in any published shape, without empty ones. Raises InvalidInput for anything else."""
    if value is None:
        return ()
    if isinstance(value, bool) or not isinstance(value, (str, int, float, list, dict)):
        raise InvalidInput(f"{where}: the answers must be texts or numbers.")
    if isinstance(value, dict):
        inner = next((value[key] for key in _IN_OBJECTS if key in value), None)
        if inner is None:
            raise InvalidInput(f"{where}: an answer has none of the fields {', '.join(_IN_OBJECTS)}.")
        return answer_texts(inner, where)
    if isinstance(value, list):
        return tuple(text for one in value for text in answer_texts(one, where))
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return (text,) if text.strip() else ()


def _json_rows(path: Path) -> Iterator[tuple[int, str, Record, str | ImageInLine | None]]:
    for number, where, record in read_lines(path):
        if image_cell(record) is not None:
            yield number, where, record, ImageInLine(path, number)
            continue
        image = _first(next((record[key] for key in IMAGE if record.get(key)), None))
        name = image.get("path") if isinstance(image, dict) else image
        yield number, where, record, name if isinstance(name, str) else None


def _parquet_rows(path: Path) -> Iterator[tuple[int, str, Record, str | EmbeddedImage | None]]:
    file = _open(path)
    names = file.schema_arrow.names
    column = next((name for name in IMAGE if name in names), None)
    number = 0
    for group in range(file.num_row_groups):
        # The images are most of the file: they are read when they are asked about.
        rows = file.read_row_group(group, columns=[name for name in names if name not in ("image", "images")])
        for row, record in enumerate(rows.to_pylist()):
            number += 1
            where = f"{path}, row {number}"
            if column in ("image", "images"):
                yield number, where, record, EmbeddedImage(path, column, group, row, f"row {number}")
            else:
                name = record.get(column) if column else None
                yield number, where, record, name if isinstance(name, str) else None


@lru_cache(maxsize=ROW_GROUPS_KEPT)
def _row_group(path: Path, column: str, group: int) -> list[Any]:
    values: list[Any] = _open(path).read_row_group(group, columns=[column]).column(column).to_pylist()
    return values


def _open(path: Path) -> ParquetFile:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path, memory_map=True)
    except (OSError, ArrowException) as error:
        raise InvalidInput(f"{path} cannot be read as Parquet: {error}.") from error


def _bytes_of(value: object) -> bytes | None:
    value = _first(value)
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) and found else None


def _first(value: object) -> object:
    return value[0] if isinstance(value, list) and value else value


def _question(record: Record, where: str) -> str:
    found = next((record[key] for key in QUESTION if isinstance(record.get(key), str) and record[key].strip()), None)
    if found is None:
        raise InvalidInput(f"{where}: the question is missing. Add it in one of the columns {', '.join(QUESTION)}.")
    return str(found)


def _answers(record: Record, where: str) -> tuple[str, ...]:
    return answer_texts(next((record[key] for key in ANSWERS if record.get(key) is not None), None), where)


def _id(record: Record, made: str) -> str:
    found = next((record[key] for key in ID if record.get(key) not in (None, "")), made)
    return str(found)


def _type(record: Record) -> str:
    found = next((str(record[key]) for key in TYPE if record.get(key) not in (None, "")), "all")
    kind = found.removesuffix("_test").removesuffix("_val").removesuffix("_train")
    return _KINDS.get(kind, kind)


def _split_of(record: Record, of_file: str | None) -> str | None:
    found = record.get("set_name") or record.get("split") or of_file
    return str(found) if found else None
