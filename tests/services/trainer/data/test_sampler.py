"""One plan, shared by any number of processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.data.batch_plan import BatchPlan
from services.trainer.data.sampler import PlanSampler
from services.trainer.launch.ranks import Ranks


@given(batch_size=st.integers(1, 20), count=st.integers(1, 8), number=st.integers(1, 5))
def test_the_shares_of_all_processes_are_the_batches(batch_size: int, count: int, number: int) -> None:
    plan = BatchPlan(30, (tuple(range(100, 120)),), batch_size, 0.5, seed=3)
    count = min(count, batch_size)
    samplers = [PlanSampler(plan, number, Ranks(index, count)) for index in range(count)]
    shares = [list(sampler) for sampler in samplers]
    for place in range(number):
        together = [index for share in shares for index in share[place]]
        assert sorted(together) == sorted(plan.batch(place))
        sizes = [len(share[place]) for share in shares]
        assert max(sizes) - min(sizes) <= 1
        weights = [sampler.weight(size) for sampler, size in zip(samplers, sizes, strict=True)]
        assert sum(weights) / count == pytest.approx(1.0)


def test_more_processes_than_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot be shared"):
        PlanSampler(BatchPlan(5, (), 2, 0.0, seed=0), 1, Ranks(0, 3))


def test_a_process_knows_its_place_from_the_launcher() -> None:
    assert Ranks.of({}) == Ranks(0, 1, 0)
    assert Ranks.of({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}) == Ranks(3, 4, 1)
    assert not Ranks(3, 4, 1).is_first
