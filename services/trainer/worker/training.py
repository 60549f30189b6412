"""A training that this worker holds: its lease, and what its heartbeat reports."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from shared.contracts import TrainingProgress
from shared.state import Lease


@dataclass
class HeldTraining:
    """``changed`` is set when there is something new to report."""

    lease: Lease
    progress: TrainingProgress | None = None
    waiting_for: str | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def report(self, progress: TrainingProgress) -> None:
        if progress != self.progress:
            self.progress = progress
            self.changed.set()

    def wait_for(self, what: str | None) -> None:
        """Report what the training waits for; None: it continues."""
        if what != self.waiting_for:
            self.waiting_for = what
            self.changed.set()
