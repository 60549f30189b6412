"""What one process sees of a step: each micro-batch, and each term of its loss."""

from __future__ import annotations

import math

from services.trainer.leveler.callbacks.measures import StepMeasures, mean


def test_a_step_collects_its_micro_batches_and_the_next_one_begins_empty() -> None:
    measures = StepMeasures()
    measures.add(3.0, {"answer": 2.0, "consistency": 1.0})
    measures.add(5.0, {"answer": 4.0})
    assert measures.losses == [3.0, 5.0]
    assert measures.terms == {"answer": [2.0, 4.0], "consistency": [1.0]}
    measures.start_step()
    assert (measures.losses, measures.terms) == ([], {})


def test_the_mean_of_nothing_is_unknown() -> None:
    assert mean([1.0, 2.0, 6.0]) == 3.0
    assert math.isnan(mean([]))
