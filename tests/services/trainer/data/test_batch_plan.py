"""Batch plans: shares, determinism, coverage."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.data.batch_plan import WINDOW, BatchPlan, optimiser_steps
from shared.contracts import TrainSpec

unbucketed = st.builds(
    BatchPlan,
    disparity=st.integers(1, 50),
    replay=st.lists(st.integers(0, 30), max_size=4).map(
        lambda sizes: tuple(tuple(range(1000 * (i + 1), 1000 * (i + 1) + n)) for i, n in enumerate(sizes))
    ),
    batch_size=st.integers(1, 33),
    replay_fraction=st.floats(0, 0.95),
    seed=st.integers(0, 2**40),
)


def bucketed(plan: BatchPlan) -> BatchPlan:
    """The same by length: of each index something between 1 and 100."""
    return replace(plan, lengths=tuple(1 + (index * 37 + plan.seed) % 100 for index in range(4030)))


plans = unbucketed | unbucketed.map(bucketed)


@given(plan=plans, number=st.integers(0, 10_000))
def test_a_batch_depends_on_seed_and_number_alone(plan: BatchPlan, number: int) -> None:
    again = replace(plan)
    again.batch(number + 3 * WINDOW)
    assert plan.batch(number) == again.batch(number)
    assert len(plan.batch(number)) == plan.batch_size


@given(plan=plans, batches=st.integers(1, 40))
def test_the_replay_share_is_kept_to_within_one_sample(plan: BatchPlan, batches: int) -> None:
    seen = [index for number in range(batches) for index in plan.batch(number)]
    replay = sum(index >= 1000 for index in seen)
    share = plan.replay_fraction if any(plan.replay) else 0.0
    assert abs(replay - share * len(seen)) <= 1 + len(seen) / 10_000


@given(plan=plans)
def test_every_pass_sees_every_disparity_pair_once(plan: BatchPlan) -> None:
    seen: list[int] = []
    number = 0
    while len(seen) < 2 * plan.disparity:
        seen += [index for index in plan.batch(number) if index < 1000]
        number += 1
    assert sorted(seen[: plan.disparity]) == list(range(plan.disparity))
    assert sorted(seen[plan.disparity : 2 * plan.disparity]) == list(range(plan.disparity))


@given(plan=unbucketed, number=st.integers(0, 200))
def test_by_length_a_batch_holds_as_many_of_each_pool_and_a_window_the_same_samples(
    plan: BatchPlan, number: int
) -> None:
    dealt = bucketed(plan)
    pools = [Counter(index // 1000 for index in one.batch(number)) for one in (plan, dealt)]
    assert pools[0] == pools[1]
    window = range(number // WINDOW * WINDOW, (number // WINDOW + 1) * WINDOW)
    samples = [Counter(index for n in window for index in one.batch(n)) for one in (plan, dealt)]
    assert samples[0] == samples[1]


def test_by_length_batches_are_padded_less_and_long_ones_come_at_any_time() -> None:
    lengths = tuple(random.Random(5).choices(range(10, 200), k=4000))
    plain = BatchPlan(1000, (tuple(range(1000, 2000)), tuple(range(2000, 4000))), 32, 0.5, seed=2)
    dealt = replace(plain, lengths=lengths)

    def padding(plan: BatchPlan) -> int:
        batches = [[lengths[index] for index in plan.batch(number)] for number in range(4 * WINDOW)]
        return sum(max(batch) - one for batch in batches for one in batch)

    assert padding(dealt) < 0.25 * padding(plain)
    longest = [max(lengths[index] for index in dealt.batch(number)) for number in range(WINDOW)]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


def test_replay_is_spread_over_the_tasks_however_unequal() -> None:
    plan = BatchPlan(10, (tuple(range(100, 400)), (500,), tuple(range(600, 610))), 30, 0.5, seed=1)
    tasks = Counter(index // 100 for n in range(20) for index in plan.batch(n))
    big, one, ten = sum(tasks[k] for k in (1, 2, 3)), tasks[5], tasks[6]
    assert big == one == ten == 100


def test_other_seeds_give_other_orders() -> None:
    orders = {tuple(BatchPlan(40, (), 40, 0.5, seed).batch(0)) for seed in range(5)}
    assert len(orders) == 5


def test_a_plan_without_disparity_pairs_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        BatchPlan(0, ((1,),), 4, 0.5, 0)


@pytest.mark.parametrize(
    ("spec", "disparity", "has_replay", "steps"),
    [
        (TrainSpec(batch_size=32, epochs=3, replay_fraction=0.5), 160, True, 30),
        (TrainSpec(batch_size=32, epochs=3, replay_fraction=0.5), 160, False, 15),
        (TrainSpec(batch_size=32, gradient_accumulation=2, epochs=1, replay_fraction=0.0), 65, True, 2),
        (TrainSpec(batch_size=32, epochs=0.1), 1, True, 1),
        (TrainSpec(batch_size=32, epochs=9, max_steps=7), 500, True, 7),
    ],
)
def test_steps(spec: TrainSpec, disparity: int, has_replay: bool, steps: int) -> None:
    assert optimiser_steps(spec, disparity, has_replay) == steps
