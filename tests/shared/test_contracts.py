"""Contracts: the job spec as users write it, and fields that no model knows."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from shared.contracts import JobSpec, JobState, ManifestSource
from tests.shared.http.small_app import Body

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


def test_final_states() -> None:
    assert {s for s in JobState if s.is_final} == {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


def test_contract_models_refuse_unknown_fields() -> None:
    assert issubclass(Body, BaseModel)
    with pytest.raises(ValueError, match="extra"):
        Body.model_validate({"count": 1, "x": 2})
