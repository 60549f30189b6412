"""What a child process writes: handed on line by line, and its last lines kept for error messages."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import IO

MAX_LINE = 16_384
REMEMBERED_LINES = 20
STDERR = 2  # sys.stderr may have been replaced, for example by Celery


def pass_on(line: bytes) -> None:
    """Write a child's line to this process's own standard error output, as if the child had inherited it."""
    with suppress(OSError):  # nobody reads this process's output any more
        os.write(STDERR, line)


class Output:
    """Reads a child's pipe on a thread of its own, so that the child never blocks on it."""

    def __init__(self, stream: IO[bytes], on_line: Callable[[bytes], None] | None) -> None:
        """``on_line`` gets each line as it was written, in parts of ``MAX_LINE`` bytes. It must not raise."""
        self._stream, self._on_line = stream, on_line
        self._last: deque[bytes] = deque(maxlen=REMEMBERED_LINES)
        self._thread = threading.Thread(target=self._read, name="child output", daemon=True)
        self._thread.start()

    def last_lines(self) -> list[str]:
        """The newest lines that are not blank."""
        lines = [line.decode(errors="replace").rstrip() for line in list(self._last)]
        return [line for line in lines if line]

    def join(self, timeout: float) -> None:
        """Wait for the end of the pipe, ``timeout`` seconds at most: a grandchild may hold it open."""
        self._thread.join(timeout)

    def _read(self) -> None:
        with self._stream:
            while line := self._stream.readline(MAX_LINE):
                self._last.append(line)
                if self._on_line is not None:
                    self._on_line(line)
