"""No NaN and no infinity passes a contract: JSON has neither, and a null in its place breaks whoever reads it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

import shared.contracts as contracts
from shared.checkpoints.promotions import Promotion
from shared.contracts import ChatRequest, Health, JobSpec, TopLogprob, TrainingProgress
from shared.settings import ClientSettings, ParitySettings, StudentSettings, TeacherSettings, TrainerSettings
from shared.state import JobInfo, ShardRecord, ShardResult, TrainingRecord

RECORDS = [Promotion, JobInfo, ShardRecord, ShardResult, TrainingRecord]
SETTINGS = [ParitySettings, StudentSettings, TeacherSettings, TrainerSettings, ClientSettings]
NOT_FINITE = (math.inf, -math.inf, math.nan)


def models() -> set[type[BaseModel]]:
    """Every contract and record, and every model inside one."""
    named = [value for value in vars(contracts).values() if isinstance(value, type) and issubclass(value, BaseModel)]
    found: set[type[BaseModel]] = set()
    left: list[type[BaseModel]] = [*named, *RECORDS, *SETTINGS]
    while left:
        model = left.pop()
        if model not in found:
            found.add(model)
            left += [inner for field in model.model_fields.values() for inner in inside(field.annotation)]
    return found


def inside(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from inside(part)


def spoilt(annotation: Any, bad: float) -> Iterator[Any]:
    """Values for a field with ``bad`` at each place where it has a number."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation is float or annotation is int:
        yield bad
    elif dataclasses.is_dataclass(annotation):
        yield from ({field.name: bad} for field in dataclasses.fields(annotation) if field.type in ("float", float))
    elif origin is Annotated:
        yield from spoilt(parts[0], bad)
    elif origin in (Union, UnionType):
        for part in parts:
            if part is not NoneType:
                yield from spoilt(part, bad)
    elif origin in (list, tuple):
        yield from ([value] * (len(parts) if parts[-1] is not ... else 1) for value in spoilt(parts[0], bad))
    elif origin is dict:
        yield from ({"name": value} for value in spoilt(parts[1], bad))


def numbers() -> list[tuple[type[BaseModel], str]]:
    return sorted(
        (
            (model, name)
            for model in models()
            for name, field in model.model_fields.items()
            if any(spoilt(field.annotation, 1.0))
        ),
        key=str,
    )


@pytest.mark.parametrize(("model", "name"), numbers(), ids=lambda value: getattr(value, "__name__", value))
def test_no_number_may_be_infinite_or_none(model: type[BaseModel], name: str) -> None:
    field = model.model_fields[name]
    annotation: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    one: Any = create_model("One", __config__=ConfigDict(**model.model_config), **{name: (annotation, ...)})
    for bad in NOT_FINITE:
        if issubclass(model, TopLogprob) and bad == -math.inf:  # a probability of 0, see below
            continue
        for value in spoilt(field.annotation, bad):
            with pytest.raises(ValidationError):
                one.model_validate({name: value})
            with pytest.raises(ValidationError):
                one.model_validate_json(json.dumps({name: value}))


@pytest.mark.parametrize("text", ["1e999", "-1e999", "Infinity", "NaN"])
def test_a_spec_with_such_a_number_names_the_field(text: str) -> None:
    train = f'{{"weight_decay": {text}}}'
    spec = f'{{"images": {{"kind": "folder", "path": "/pile"}}, "tasks": ["chart"], "train": {train}}}'
    for read in (lambda: JobSpec.model_validate_json(spec), lambda: JobSpec.model_validate(json.loads(spec))):
        with pytest.raises(ValidationError, match=r"train\.weight_decay\n.*finite"):
            read()


def test_a_token_of_probability_0_has_the_least_logprob() -> None:
    assert TopLogprob.model_validate_json('{"token": "x", "logprob": -Infinity}').logprob == -9999.0


def test_a_number_deep_in_any_json_is_looked_at() -> None:
    body = {"model": "m", "messages": [], "response_format": {"schema": [{"maximum": math.inf}]}}
    with pytest.raises(ValidationError, match="finite"):
        ChatRequest.model_validate(body)
    health = Health(service="student", ready=True, details={"loads": [1.0, math.nan, {"x": math.inf}]})
    assert health.details == {"loads": [1.0, None, {"x": None}]}


def test_records_of_earlier_releases_held_such_numbers() -> None:
    record = TrainingRecord.load('{"progress": {"step": 3, "loss": NaN, "terms": {"answer": Infinity, "other": 1.0}}}')
    assert record.progress is not None
    shown = TrainingProgress.model_validate(record.progress)
    assert (shown.step, shown.loss, shown.terms) == (3, None, {"other": 1.0})
    assert "NaN" not in record.dump()


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e999"])
def test_a_setting_is_finite(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MPA_LEASE", "MPA_TRACE_SHARE"):
        monkeypatch.setenv(name, text)
        with pytest.raises(ValidationError):
            ParitySettings()
        monkeypatch.delenv(name)
