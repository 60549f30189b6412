"""The presets: as the documentation shows them, and as specs are stored."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.contracts import PRESETS, JobSpec, LossSpec

METHOD = Path(__file__).resolve().parents[2] / "docs" / "method.md"


def test_the_documentation_shows_the_presets_as_they_are() -> None:
    rows = re.findall(
        r"^\| `(\w+)`[^|]*\|[^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|$", METHOD.read_text(), re.MULTILINE
    )
    assert {name: tuple(cell.strip() for cell in cells) for name, *cells in rows} == {
        name: (
            ", ".join(f"`{one}`" for one in preset.weigh_by) or "–",
            f"{preset.consistency:g}",
            f"{preset.rationale:g}",
            f"{preset.attention:g}",
        )
        for name, preset in ((name, LossSpec.model_validate({"preset": name})) for name in PRESETS)
    }


def test_a_spec_is_stored_with_the_fields_of_its_preset_and_read_as_it_was() -> None:
    spec = JobSpec.model_validate(
        {"images": {"kind": "folder", "path": "x"}, "tasks": ["a"], "train": {"loss": {"preset": "discrepancy"}}}
    )
    stored = json.loads(spec.model_dump_json())
    assert stored["train"]["loss"] == {
        "preset": "discrepancy",
        "weigh_by": ["vote_share"],
        "consistency": 0.3,
        "consistency_by": "auto",
        "rationale": 0.0,
        "attention": 0.0,
    }
    assert JobSpec.model_validate(stored) == spec


def test_what_an_earlier_release_left_open_is_filled_in_when_it_is_read() -> None:
    older = {"preset": "discrepancy", "weigh_by": None, "consistency": None, "rationale": 0.2, "attention": None}
    read = LossSpec.model_validate(older)
    assert (read.weigh_by, read.consistency, read.rationale, read.attention) == (["vote_share"], 0.3, 0.2, 0.0)
    with pytest.raises(ValidationError, match="preset"):
        LossSpec.model_validate({"preset": None})
