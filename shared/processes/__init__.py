"""Child processes and ports."""

from shared.processes.lifetime import die_with_parent

__all__ = ["die_with_parent"]
