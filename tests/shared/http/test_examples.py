"""Every property of every model, and every parameter, shows a value that may really occur."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from shared.http.examples import EXAMPLES, add_examples
from tests.described_services import NAMES, document, fields


@pytest.mark.parametrize("name", NAMES)
def test_every_property_and_parameter_has_an_example(name: str) -> None:
    assert not [field for field, form in fields(name) if not form.get("examples")]


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_what_its_schema_allows(name: str) -> None:
    components = document(name)["components"]
    forms = [*fields(name), *components["schemas"].items()]
    wrong = [
        f"{place}: {error.message}"
        for place, form in forms
        for example in form.get("examples", ())
        for error in Draft202012Validator({**form, "components": components}).iter_errors(example)
    ]
    assert not wrong


def test_every_example_in_the_table_is_shown() -> None:
    """An entry whose field is gone would stay in the table for ever."""
    names = {part for name in NAMES for field, _ in fields(name) for part in spellings(field)}
    assert not [entry for entry in EXAMPLES if entry not in names]


def spellings(field: str) -> tuple[str, str]:
    """How the table may call a property or a parameter."""
    model, _, name = field.replace(": ", ".").rpartition(".")
    return f"{model.partition('-')[0]}.{name}", name


@pytest.mark.parametrize(
    ("form", "example"),
    [
        ({"type": "string", "examples": ["its own"], "default": "x"}, "its own"),
        ({"type": "string", "default": "auto"}, "auto"),
        ({"type": "string", "enum": ["full", "lora"]}, "full"),
        ({"const": "folder"}, "folder"),
        ({"type": "boolean"}, True),
        ({"anyOf": [{"$ref": "#/components/schemas/Part"}, {"type": "null"}]}, {"seats": 3}),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Part"}}, [{"seats": 3}]),
        ({"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Part"}}, {"textvqa": {"seats": 3}}),
    ],
)
def test_an_example_follows_from_the_schema(form: dict[str, Any], example: Any) -> None:
    assert shown("whole", form) == [example]


def test_the_table_knows_names_and_models_but_only_values_that_fit() -> None:
    text, number = {"type": "string"}, {"type": "integer"}
    assert shown("job_id", text) == [EXAMPLES["job_id"]]
    assert shown("version", number, "JobStatus") == [EXAMPLES["JobStatus.version"]]
    assert shown("version", number) is None


def test_a_property_without_an_example_does_no_harm() -> None:
    assert shown("unheard_of", {"type": "string"}) is None


def shown(field: str, form: dict[str, Any], model: str = "Whole") -> list[Any] | None:
    part = {"properties": {"seats": {"type": "integer", "default": 3}, "unheard_of": {"type": "string"}}}
    schemas = {model: {"properties": {field: dict(form)}}, "Part": part}
    add_examples({"components": {"schemas": schemas}, "paths": {}})
    found: list[Any] | None = schemas[model]["properties"][field].get("examples")
    return found
