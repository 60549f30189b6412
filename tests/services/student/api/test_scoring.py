"""Scores of given answers over HTTP."""

from __future__ import annotations

import pytest

from shared.contracts import ScoreItem, ScoreRequest
from shared.errors import UpstreamError
from shared.settings import StudentSettings
from tests.services.student.small_replica import QUESTION, data_url, running


async def test_scores(settings: StudentSettings) -> None:
    async with running(settings) as (client, _):
        scores = await client.score(
            ScoreRequest(items=[ScoreItem(image=data_url(), question=QUESTION, answers=["red", "two words"])])
        )
        assert scores.checkpoint == "base"
        assert [s.answer for s in scores.scores[0]] == ["red", "two words"]
        for score in scores.scores[0]:
            assert score.logprob == pytest.approx(sum(score.token_logprobs), abs=1e-5)
        bad = ScoreRequest(items=[ScoreItem(image="data:,", question="?", answers=["x"])])
        with pytest.raises(UpstreamError, match=r"items\[0\]: Image 1 of 1"):
            await client.score(bad)
