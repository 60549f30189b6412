"""Batch plans: shares, determinism, coverage."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.plan import BatchPlan, optimiser_steps
from shared.contracts import TrainSpec

plans = st.builds(
    BatchPlan,
    disparity=st.integers(1, 50),
    replay=st.lists(st.integers(0, 30), max_size=4).map(
        lambda sizes: tuple(tuple(range(1000 * (i + 1), 1000 * (i + 1) + n)) for i, n in enumerate(sizes))
    ),
    batch_size=st.integers(1, 33),
    replay_fraction=st.floats(0, 0.95),
    seed=st.integers(0, 2**40),
)


@given(plan=plans, number=st.integers(0, 10_000))
def test_a_batch_depends_on_seed_and_number_alone(plan: BatchPlan, number: int) -> None:
    again = BatchPlan(plan.disparity, plan.replay, plan.batch_size, plan.replay_fraction, plan.seed)
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
