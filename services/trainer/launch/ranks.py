"""Which of a training's processes this one is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Ranks:
    """``index`` of ``count`` processes, of which ``beside`` share its machine; ``local`` is the number of its GPU."""

    index: int = 0
    count: int = 1
    local: int = 0
    beside: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Ranks:
        """As torch's launcher says; alone without one."""
        return cls(
            int(environment.get("RANK", 0)),
            int(environment.get("WORLD_SIZE", 1)),
            int(environment.get("LOCAL_RANK", 0)),
            int(environment.get("LOCAL_WORLD_SIZE", 1)),
        )

    @property
    def is_first(self) -> bool:
        """The first process also keeps the books: progress, failures, saved steps, the candidate."""
        return self.index == 0


ALONE = Ranks()
