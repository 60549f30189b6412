"""Jobs that want attention: refused without probes, and maps in the set with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from services.parity.worker.shard import ShardWork
from shared.client import ParityClient
from shared.contracts import Verdict
from shared.errors import UpstreamError
from shared.sets import read_set
from shared.store import Store
from tests.quick_server import ServerThread
from tests.scripted_models import ScriptedModel

Spec = Callable[..., dict[str, Any]]
Server = tuple[ScriptedModel, ServerThread]
WANTED = {"discrepancies": {"attention": True, "grid": 2}}
STUDENTS_MAP = [[0.7, 0.1], [0.1, 0.1]]


async def test_a_job_that_wants_attention_needs_both_probes(
    api: ParityClient, spec: Spec, teacher: Server, student: Server
) -> None:
    with pytest.raises(UpstreamError, match=r"discrepancies.attention: the teacher at .* MPA_ATTENTION_PROBE"):
        await api.submit(spec(**WANTED))
    teacher[0].looks = {}
    with pytest.raises(UpstreamError, match="the student at"):
        await api.submit(spec(**WANTED))
    student[1].stop()
    student[0].looks = {}
    with pytest.raises(UpstreamError, match="the student at"):
        await api.submit(spec(**WANTED))
    assert not (await api.jobs()).jobs


async def test_kept_pairs_have_both_maps_and_others_none(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Server, student: Server
) -> None:
    teacher[0].looks, student[0].looks = {}, {}
    job = await api.submit(spec(**WANTED))
    student[0].looks = None  # turned off meanwhile: that costs the pairs their maps, not the job
    await work.run(job.id, 0)
    student[0].looks = Always(STUDENTS_MAP)
    await work.run(job.id, 1)
    rows = read_set(store, job.id).to_pylist()
    kept = [row for row in rows if row["verdict"] == Verdict.DISPARITY]
    assert {row["shard"] for row in kept} == {0, 1}
    for row in rows:
        is_kept = row["verdict"] == Verdict.DISPARITY
        assert row["teacher_attention"] == ([0.25] * 4 if is_kept else None)
        if not is_kept or row["shard"] == 0:
            assert row["student_attention"] is None
        else:
            assert row["student_attention"] == pytest.approx([0.7, 0.1, 0.1, 0.1], abs=1e-3)


async def test_other_jobs_ask_for_no_attention(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, teacher: Server, student: Server
) -> None:
    teacher[0].looks, student[0].looks = {}, {}
    job = await api.submit(spec())
    await work.run(job.id, 0)
    assert {row["teacher_attention"] for row in read_set(store, job.id).to_pylist()} == {None}


class Always(dict[str, list[list[float]]]):
    """The same map for every answer."""

    def __init__(self, values: list[list[float]]) -> None:
        super().__init__()
        self.values_for_all = values

    def get(self, key: str, default: Any = None) -> Any:
        return self.values_for_all
