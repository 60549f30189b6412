"""Specs that contradict themselves or the tasks are refused at submit."""

from __future__ import annotations

from typing import Any

import pytest

from shared.client import ParityClient
from shared.errors import UpstreamError
from tests.services.parity.collecting import Spec

pytestmark = pytest.mark.usefixtures("tasks_with_reasons")


async def test_contradictions_between_loss_and_measures_are_refused(api: ParityClient, spec: Spec) -> None:
    with pytest.raises(UpstreamError, match=r"set discrepancies\.reasoning to true"):
        await api.submit(spec(train={"loss": {"rationale": 0.5}}, discrepancies={"reasoning": False}))


async def test_reasons_need_a_task_that_asks_for_them(api: ParityClient, spec: Spec) -> None:
    with pytest.raises(
        UpstreamError, match=r"none of the tasks okvqa-plain has the prompt it needs: add prompts\.explain"
    ):
        await api.submit(spec(tasks=["okvqa-plain"], discrepancies={"reasoning": True}))


@pytest.mark.parametrize(
    ("needs", "named"),
    [
        ({"identifier": {"min_confidence": 0.5}}, "identifier.min_confidence"),
        ({"train": {"loss": {"weigh_by": ["confidence"]}}}, "weigh_by confidence"),
        ({"train": {"loss": {"consistency": 0.3, "consistency_by": "top_k"}}}, "consistency_by top_k"),
    ],
)
async def test_one_shot_answers_have_no_probabilities_to_go_by(
    api: ParityClient, spec: Spec, needs: dict[str, Any], named: str
) -> None:
    with pytest.raises(UpstreamError, match=rf"{named} needs .* use mode two_step"):
        await api.submit(spec(**needs, annotator={"mode": "one_shot"}))
    await api.submit(spec(**needs))
    await api.submit(spec(annotator={"mode": "one_shot"}, train={"loss": {"preset": "discrepancy"}}))
