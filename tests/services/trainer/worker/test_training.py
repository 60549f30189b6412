"""A held training wakes its heartbeat for news, and only for news."""

from __future__ import annotations

from services.trainer.worker.training import HeldTraining
from shared.contracts import TrainingProgress
from shared.state import Lease


def test_only_what_is_new_wakes_the_heartbeat() -> None:
    held = HeldTraining(Lease("j", None, "w", "t", 0.0, 1))
    first, second = (TrainingProgress(step=step, steps=9, loss=1.0) for step in (1, 2))
    woken = []
    for news in (
        lambda: held.report(first),
        lambda: held.report(first.model_copy()),
        lambda: held.report(second),
        lambda: held.wait_for(None),
        lambda: held.wait_for("the student"),
        lambda: held.wait_for("the student"),
        lambda: held.wait_for(None),
    ):
        held.changed.clear()
        news()
        woken.append(held.changed.is_set())
    assert woken == [True, False, True, False, True, False, True]
    assert (held.progress, held.waiting_for) == (second, None)
