"""The job spec as users write it; each field has a description, which OpenAPI shows."""

from __future__ import annotations

import inspect

import pytest
from pydantic import ValidationError

from shared.contracts import JobSpec, ManifestSource, job_spec, training
from shared.contracts.base import Contract

CONTRACTS = [
    contract
    for module in (job_spec, training)
    for _, contract in inspect.getmembers(module, inspect.isclass)
    if issubclass(contract, Contract) and contract.__module__ == module.__name__
]


def test_the_specs_of_a_job_are_all_here() -> None:
    names = {contract.__name__ for contract in CONTRACTS}
    assert {"JobSpec", "AnnotatorSpec", "IdentifierSpec", "DiscrepancySpec", "TrainSpec"} <= names
    assert {"LossSpec", "LoraSpec", "RoundsSpec", "GateSpec", "TrainingProgress"} <= names


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_every_field_has_a_description(contract: type[Contract]) -> None:
    undocumented = [name for name, field in contract.model_fields.items() if not field.description]
    assert undocumented == []
    assert contract.__doc__


MINIMAL = {"images": {"kind": "manifest", "path": "pile.jsonl"}, "tasks": ["chart"]}


def test_one_source_or_a_list() -> None:
    assert (
        JobSpec.model_validate(MINIMAL).images
        == JobSpec.model_validate({**MINIMAL, "images": [MINIMAL["images"]]}).images
    )


def test_spec_survives_json() -> None:
    spec = JobSpec.model_validate({**MINIMAL, "train": {"method": "lora", "lora": {"rank": 4}}})
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    assert isinstance(spec.images[0], ManifestSource)


@pytest.mark.parametrize(
    "change",
    [
        {"images": []},
        {"images": {"kind": "ftp", "path": "x"}},
        {"tasks": []},
        {"taskz": ["chart"]},
        {"student": "../etc"},
        {"identifier": {"votes": 0}},
        {"identifier": {"threshold": 1.5}},
        {"train": {"lora": {"rank": 4}}},
        {"train": {"replay_fraction": 1.0}},
        {"gate": {"held_out_fraction": 0}},
    ],
)
def test_bad_specs_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as refused:
        JobSpec.model_validate({**MINIMAL, **change})
    assert {error["loc"][0] for error in refused.value.errors()} == change.keys()
