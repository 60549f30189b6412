"""Custom task profiles from a YAML file, strictly checked."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from shared.contracts import NAME_PATTERN, Finite
from shared.errors import InvalidInput
from shared.text_files import read_text
from shared.vqa.agreement import AgreementRule
from shared.vqa.metrics import METRIC_NAMES
from shared.vqa.profiles import PAIR_SCHEMA, REFUSALS, Prompts, TaskProfile
from shared.vqa.reading.refusals import check_refusal

LARGEST_FILE = 1_000_000
MOST_TOKENS = 4096
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=8000)]
_OfPair = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"(?s)\{question\}.*\{answer\}")]


class _Strict(Finite):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Prompts(_Strict):
    ask: Text
    ask_and_answer: Text
    answer: Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"\{question\}")]
    ask_json: Text | Literal[""] = ""
    ask_and_answer_json: Text | Literal[""] = ""
    explain: _OfPair | Literal[""] = ""
    check: _OfPair | Literal[""] = ""
    answerable: _OfPair | Literal[""] = ""


class _Agreement(_Strict):
    tolerance: float = Field(0.0, ge=0, le=0.5)
    optional_units: bool = False
    any_order: bool = False


class _Task(_Strict):
    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    metric: Literal["vqa", "anls", "relaxed", "exact"]
    prompts: _Prompts
    description: str = ""
    agreement: _Agreement | None = None
    parser: Literal["tagged", "json"] = "tagged"
    max_question_tokens: int = Field(64, ge=1, le=MOST_TOKENS)
    max_answer_tokens: int = Field(24, ge=1, le=MOST_TOKENS)
    max_rationale_tokens: int = Field(64, ge=1, le=MOST_TOKENS)
    raise_limit_by: int = Field(4, ge=1, le=16)
    refusals: list[Annotated[Text, AfterValidator(check_refusal)]] = Field(default_factory=lambda: list(REFUSALS))
    structured: bool | None = None
    json_schema: dict[str, Any] | None = None

    @field_validator("json_schema")
    @classmethod
    def _describes_a_pair(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        properties = schema.get("properties") if schema is not None else None
        named = isinstance(properties, dict) and {"question", "answer"} <= properties.keys()
        if schema is not None and (schema.get("type") != "object" or not named):
            raise PydanticCustomError("no_pair", "must be the schema of an object with properties question and answer")
        return schema

    def profile(self) -> TaskProfile:
        values = self.model_dump(exclude={"prompts", "agreement", "refusals", "structured", "json_schema"})
        structured = self.parser == "json" or self.json_schema is not None
        schema = self.json_schema or PAIR_SCHEMA
        prompts = Prompts(**self.prompts.model_dump())
        return TaskProfile(
            **values,
            prompts=prompts,
            agreement=None if self.agreement is None else AgreementRule(**self.agreement.model_dump()),
            refusals=tuple(self.refusals),
            json_schema=schema if (structured if self.structured is None else self.structured) else None,
        )


def read_task_file(path: Path, taken: Collection[str] = ()) -> dict[str, TaskProfile]:
    """The profiles of ``path`` by name, in its order. ``taken``: names that are not free (built-in ones).

    Raises InvalidInput that names the file, the task and the field.
    """
    found: dict[str, TaskProfile] = {}
    for index, entry in enumerate(_entries(path)):
        profile = _read_task(path, index, entry)
        if profile.name in taken:
            raise InvalidInput(f"{path}: task {profile.name!r}: this name is built in; choose another name.")
        if profile.name in found:
            raise InvalidInput(f"{path}: task {profile.name!r}: defined twice; rename or remove one.")
        found[profile.name] = profile
    return found


def _entries(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InvalidInput(f"{path}: larger than {LARGEST_FILE} bytes; a task file holds a few prompts.")
        data = yaml.safe_load(read_text(path))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: the task file cannot be read ({error}): check MPA_TASKS_FILE.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(f"{path}: not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(data, dict) or not isinstance(data.get("tasks"), list) or not data["tasks"]:
        raise InvalidInput(f"{path}: the file must hold a list of at least one task under the key 'tasks'.")
    unknown = sorted(str(key) for key in data if key != "tasks")
    if unknown:
        raise InvalidInput(f"{path}: unknown field {unknown[0]!r}: only 'tasks' is known at the top.")
    tasks: list[Any] = data["tasks"]
    return tasks


def _read_task(path: Path, index: int, entry: Any) -> TaskProfile:
    name = entry.get("name") if isinstance(entry, dict) else None
    task = repr(name) if isinstance(name, str) else f"number {index + 1}"
    if not isinstance(entry, dict):
        raise InvalidInput(f"{path}: task {task}: must be a mapping with name, metric and prompts.")
    try:
        return _Task.model_validate(entry).profile()
    except ValidationError as error:
        problems = "; ".join(_problem(item) for item in error.errors())
        raise InvalidInput(f"{path}: task {task}: {problems}.") from error


def _problem(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"]) or "task"
    hints = {
        "extra_forbidden": "unknown field: remove it or fix its spelling",
        "missing": "is missing",
    }
    if where == "prompts.answer" and item["type"] == "string_pattern_mismatch":
        return "field prompts.answer: must contain the placeholder {question}"
    if where == "metric" and item["type"] == "literal_error":
        return f"field metric: must be one of {', '.join(METRIC_NAMES)}"
    return f"field {where}: {hints.get(item['type'], item['msg'])}"
