"""Teachers that cannot do what a job needs are refused at submit."""

from __future__ import annotations

import pytest

from shared.client import ParityClient
from shared.errors import UpstreamError
from tests.services.parity.collecting import Model, Spec


async def test_top_k_needs_a_teacher_that_tells_log_probabilities(
    api: ParityClient, spec: Spec, teacher: Model
) -> None:
    by_tokens = {"train": {"loss": {"consistency": 0.3, "consistency_by": "top_k"}}}
    teacher[0].logprobs = False
    with pytest.raises(UpstreamError, match=r"sends none .*consistency_by 'candidates'.*preset 'replay'"):
        await api.submit(spec(**by_tokens))
    teacher[0].refusal = lambda body: "logprobs are not supported" if body.get("logprobs") else None
    with pytest.raises(UpstreamError, match="logprobs are not supported"):
        await api.submit(spec(**by_tokens))
    await api.submit(spec(train={"loss": {"consistency": 0.3, "consistency_by": "candidates"}}))
    teacher[0].refusal, teacher[0].logprobs = None, True
    await api.submit(spec(**by_tokens))
    teacher[1].stop()
    await api.submit(spec(**by_tokens, seed=9))  # one that is away is waited for, as ever
