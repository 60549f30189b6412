"""The place of this process among those of a training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Ranks:
    """Process ``index`` of ``count``, of which ``beside`` share its machine. ``local`` is the number of its GPU."""

    index: int = 0
    count: int = 1
    local: int = 0
    beside: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Ranks:
        """As torch's launcher says, or alone without a launcher."""
        return cls(
            int(environment.get("RANK", 0)),
            int(environment.get("WORLD_SIZE", 1)),
            int(environment.get("LOCAL_RANK", 0)),
            int(environment.get("LOCAL_WORLD_SIZE", 1)),
        )

    @property
    def is_first(self) -> bool:
        """The first process also writes the results: progress, saved steps, the candidate."""
        return self.index == 0


ALONE = Ranks()
