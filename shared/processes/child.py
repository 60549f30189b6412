"""One run of a command as a child process: its group, its output, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from psutil import Process

from shared.processes.family import descendants, group_members, kill, living, signal_group
from shared.processes.output import Output
from shared.processes.reaper import Reaper

POLL_SECONDS = 0.05
GONE_SECONDS = 5.0
OUTPUT_SECONDS = 0.5


class Child:
    """A started command in a process group of its own, whose output (both streams) is read line by line.

    A signal to this process's group, such as a Ctrl-C at its terminal, does not reach the child. If this process is
    killed with -9, ``reaper`` ends the child. Without a reaper the child has to end when its standard input, or what
    it gets by ``pass_fds``, closes.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        on_line: Callable[[bytes], None] | None = None,
        reaper: Reaper | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """``env`` is the whole environment. Raises OSError if the command cannot be started."""
        self._process = subprocess.Popen(
            list(command),
            env=dict(env),
            stdin=subprocess.PIPE if reaper is None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        self._started = time.monotonic()
        self._reaper = reaper
        if reaper is not None:
            reaper.watch(self.pid)
        assert self._process.stdout is not None
        self._output = Output(self._process.stdout, on_line)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative if a signal ended it."""
        return self._process.poll()

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = self._process.poll()
        if code is None:
            return "is running"
        return (
            f"was killed by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exited with code {code}"
        )

    @property
    def age(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def last_lines(self) -> list[str]:
        """The end of its output, for an error message."""
        return self._output.last_lines()

    async def wait(self) -> None:
        """Return when the process has ended; its group may still have members."""
        while self.running:
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self, seconds: float, gone_seconds: float = GONE_SECONDS) -> bool:
        """SIGTERM, and SIGKILL after ``seconds``; returns when the group and all descendants are gone.

        False if the process had to be killed. Processes that are stuck in the kernel, for example in a GPU driver, are
        waited for ``gone_seconds`` at most.
        """
        family = await self._family()
        if self.running and seconds > 0:
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.wait()
        in_time = not self.running
        family |= await self._family()
        self.kill()
        kill(family)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(gone_seconds):
                while self.running or living(family):
                    await asyncio.sleep(POLL_SECONDS)
        if self._reaper is not None:
            self._reaper.forget(self.pid)
        await asyncio.to_thread(self._output.join, OUTPUT_SECONDS)  # a grandchild elsewhere may still hold the pipe
        return in_time

    def kill(self) -> None:
        """SIGKILL to the group at once. ``stop`` still has to be awaited."""
        signal_group(self.pid, signal.SIGKILL)

    async def _family(self) -> set[Process]:
        """What has to go with the process: its descendants, and orphans in its group."""
        return await asyncio.to_thread(lambda: descendants(self.pid) | group_members(self.pid))
