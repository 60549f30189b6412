"""Teachers and students that cannot do what a job needs are refused at submit."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.parity.worker.shard import ShardWork
from shared.checkpoints import CheckpointRegistry
from shared.client import ParityClient
from shared.contracts import JobState
from shared.errors import UpstreamError
from shared.store import Store
from tests.services.parity.collecting import Model, Spec
from tests.shared.checkpoints.small_folder import model_folder


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


def quantised(folder: Path) -> Path:
    (model_folder(folder) / "config.json").write_text('{"quantization_config": {"quant_method": "awq"}}')
    return folder


async def test_a_quantised_student_is_refused_before_the_teacher_is_paid(
    api: ParityClient, spec: Spec, store: Store, tmp_path: Path
) -> None:
    known = await api.submit(spec(), idempotency_key="known")  # no checkpoint is registered yet
    registry = CheckpointRegistry(store, "student")
    registry.register_base(quantised(tmp_path / "quantised"))
    with pytest.raises(UpstreamError, match=r"checkpoint base of 'student' is quantised .*awq.*MPA_STUDENT_MODEL"):
        await api.submit(spec(seed=8), idempotency_key="new")
    assert (await api.submit(spec(), idempotency_key="known")).id == known.id
    registry.set_active(registry.register_base(model_folder(tmp_path / "whole")), "test")
    await api.submit(spec(seed=8), idempotency_key="new")


async def test_a_student_that_turns_out_to_be_quantised_fails_the_job_before_the_teacher_is_asked(
    api: ParityClient, spec: Spec, store: Store, work: ShardWork, teacher: Model, tmp_path: Path
) -> None:
    job = await api.submit(spec())
    CheckpointRegistry(store, "student").register_base(quantised(tmp_path / "quantised"))
    await work.run(job.id, 0)
    status = await api.job(job.id)
    assert status.state is JobState.FAILED and "is quantised (quantization_config: awq)" in str(status.last_error)
    assert teacher[0].requests == []
