"""The job spec as users write it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from shared.contracts import JobSpec, JobState, ManifestSource

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
