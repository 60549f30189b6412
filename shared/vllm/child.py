"""One run of a model server: a child process with a folder of its own for temporary files."""

from __future__ import annotations

import asyncio
import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.processes.child import GONE_SECONDS, Child
from shared.processes.reaper import Reaper

ORPHAN_GRACE = 3.0
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

log = logging.getLogger("vllm")


class ServerProcess(Child):
    """A model server whose temporary files are deleted with it, also when this process is killed with -9.

    A server that is killed leaves its sockets and rendezvous files behind.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Raises OSError if the command cannot be started."""
        scratch = Path(tempfile.mkdtemp(prefix="mpa-server-"))
        self._own_reaper = Reaper(grace=ORPHAN_GRACE, delete=[scratch])
        try:
            super().__init__(command, {**env, "TMPDIR": str(scratch)}, _Levels().log, self._own_reaper)
        except OSError:
            self._own_reaper.close()
            raise

    async def stop(self, seconds: float, gone_seconds: float = GONE_SECONDS) -> bool:
        in_time = await super().stop(seconds, gone_seconds)
        await asyncio.to_thread(self._own_reaper.close)
        return in_time


class _Levels:
    """Logs a server's lines at the level that they name; a line without a level belongs to the one before."""

    def __init__(self) -> None:
        self._level = logging.INFO

    def log(self, line: bytes) -> None:
        text = _COLOURS.sub("", line.decode(errors="replace")).rstrip()
        found = _LEVEL.search(text[:60])
        if found:
            self._level = logging.getLevelNamesMapping()[found.group(1)]
        if text:
            log.log(self._level, "%s", text)
