"""The presets, as the documentation shows them and as specs are stored; and what a loss needs to be measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.contracts import PRESETS, DiscrepancySpec, JobSpec, LossSpec, TrainSpec
from shared.errors import InvalidInput
from shared.loss_spec import check_discrepancies

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


def test_presets() -> None:
    plain = {"weigh_by": [], "consistency": 0.0, "rationale": 0.0, "attention": 0.0}
    assert LossSpec(preset="paper") == LossSpec.model_validate({"preset": "paper", **plain})
    assert LossSpec(preset="replay") == LossSpec.model_validate(plain)
    assert not LossSpec(preset="paper").has_terms and not LossSpec().has_terms
    assert LossSpec(preset="discrepancy").has_terms
    assert TrainSpec.model_validate({"loss": {"preset": "paper"}}).replay_fraction == 0.0
    assert TrainSpec.model_validate({"loss": {"preset": "paper"}, "replay_fraction": 0.3}).replay_fraction == 0.3
    assert TrainSpec.model_validate({"loss": {"preset": "replay"}}).replay_fraction == 0.5
    assert TrainSpec(loss=LossSpec(preset="paper")).replay_fraction == 0.0
    assert LossSpec(preset="discrepancy", consistency=0.0).consistency == 0.0
    assert LossSpec(preset="paper", rationale=0.2) == LossSpec.model_validate(
        {"preset": "paper", **plain, "rationale": 0.2}
    )


@pytest.mark.parametrize(
    ("loss", "measured", "words"),
    [
        (LossSpec(rationale=0.1), DiscrepancySpec(), "set discrepancies.reasoning to true"),
        (LossSpec(attention=0.1), DiscrepancySpec(), "set discrepancies.attention to true"),
        (LossSpec(weigh_by=["confidence"]), DiscrepancySpec(confidence=False), "set discrepancies.confidence to true"),
        (LossSpec(consistency=0.1, consistency_by="top_k"), DiscrepancySpec(), "consistency_by 'candidates'"),
    ],
)
def test_a_loss_that_uses_what_is_not_measured_is_refused(
    loss: LossSpec, measured: DiscrepancySpec, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_discrepancies(loss, measured)


def test_a_loss_that_uses_what_is_measured_is_fine() -> None:
    check_discrepancies(
        LossSpec(consistency=0.5, rationale=0.5, attention=0.5), DiscrepancySpec(attention=True, reasoning=True)
    )
