"""Whoever submits a job reads in OpenAPI what each field is: none goes without a description."""

from __future__ import annotations

import inspect

import pytest

from shared.contracts import job_spec, training
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
