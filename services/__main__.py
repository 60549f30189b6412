"""``python -m services``: Redis and all services on this machine, one log, one Ctrl-C."""

from __future__ import annotations

import asyncio
import sys

from services.supervisor.logbook import LogBook
from services.supervisor.plan import make_plan
from services.supervisor.supervisor import READY_SECONDS, data_dir_lock, supervise
from shared.errors import MPAError
from shared.settings import (
    ParitySettings,
    StudentSettings,
    TeacherSettings,
    TrainerSettings,
    refuse_bad_settings,
)


def main() -> int:
    """Run until a signal; exit code 0 if that is why it ended."""
    refuse_bad_settings(TeacherSettings, StudentSettings, ParitySettings, TrainerSettings)
    try:
        settings = TeacherSettings()
        with data_dir_lock(settings.data_dir) as lock_fd:
            plan = make_plan()
            log = LogBook(settings.data_dir / "logs" / "mpa.log", [*plan.names, "supervisor"])
            timeout = max(READY_SECONDS, settings.teacher_ready_timeout.total_seconds())
            asyncio.run(supervise(plan, settings.data_dir, log, lock_fd=lock_fd, ready_timeout=timeout))
    except MPAError as error:
        sys.stderr.write(f"error: {error.detail}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
