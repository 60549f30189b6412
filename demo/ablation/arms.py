"""The arms of the ablation: on which pairs the student is trained, and with which loss.

All arms of a seed draw on one mining and take the same number of optimiser steps of the same batch size. The loss
settings were chosen on the dev split (docs/method.md says how).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from shared.contracts import TrainSpec


class Pairs(StrEnum):
    """Which of the mined pairs an arm's set holds."""

    NONE = "none"
    EVERYTHING = "everything"
    """All pseudo-labels, whatever the student answered."""
    CONSISTENT = "consistent"
    """All that the teacher answered in the same way in every vote."""
    PARITY = "parity"
    """Of these, the ones that the student got wrong; those that it got right serve as replay."""
    LENIENT = "lenient"
    """As ``PARITY``, but one agreeing vote is enough: the votes then weigh the label."""
    TRUTH = "truth"
    """The same questions with the world's own answers, and the parity by those."""


@dataclass(frozen=True)
class Arm:
    """``train`` is merged over `BASE`; with two ``rounds`` the steps are halved and mining is done again between."""

    name: str
    pairs: Pairs
    train: dict[str, Any] = field(default_factory=dict)
    rounds: int = 1

    def spec(self, steps: int) -> TrainSpec:
        """The training of one round when ``steps`` are to be taken in all."""
        return TrainSpec.model_validate(BASE | {"max_steps": steps // self.rounds} | self.train)


BASE: dict[str, Any] = {
    "learning_rate": 1e-3,
    "batch_size": 48,
    "replay_fraction": 0.25,
    "freeze_vision": True,
    "precision": "bf16",
    "save_every_steps": 1000,
}
_PLAIN: dict[str, Any] = {"replay_fraction": 0.0, "loss": {"preset": "paper"}}


def _replay(**loss: Any) -> dict[str, Any]:
    return {"loss": {"preset": "replay", **loss}}


NOTHING, EVERYTHING, PAPER, DISCREPANCY, TRUTH = (
    "no training",
    "all pseudo-labels",
    "paper",
    "discrepancy",
    "ground truth",
)
ARMS = (
    Arm(NOTHING, Pairs.NONE),
    Arm(EVERYTHING, Pairs.EVERYTHING, _PLAIN),
    Arm(PAPER, Pairs.PARITY, _PLAIN),
    Arm("replay", Pairs.PARITY, _replay()),
    Arm(DISCREPANCY, Pairs.PARITY, {"loss": {"preset": "discrepancy"}}),
    Arm(TRUTH, Pairs.TRUTH, _replay()),
    Arm("replay + rationale", Pairs.PARITY, _replay(rationale=0.5)),
    Arm("replay + consistency", Pairs.PARITY, _replay(consistency=1.0)),
    Arm("replay + attention", Pairs.PARITY, _replay(attention=1.0)),
    Arm("replay + confidence", Pairs.PARITY, _replay(weigh_by=["confidence"])),
    Arm("replay + vote share", Pairs.LENIENT, _replay(weigh_by=["vote_share"])),
    Arm("self-consistent", Pairs.CONSISTENT, _PLAIN),
    Arm("two rounds", Pairs.PARITY, _replay(), rounds=2),
    Arm("two rounds of all pseudo-labels", Pairs.EVERYTHING, _PLAIN, rounds=2),
)
"""In the order in which they run: the most interesting first."""
