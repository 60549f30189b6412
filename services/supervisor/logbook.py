"""One interleaved log of all services: coloured on a terminal, plain in the file."""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

COLORS = (36, 32, 33, 35, 34, 96, 92, 93)
RESET = "\033[0m"
FILE_BYTES = 50_000_000
OLD_FILES = 2
REMEMBERED_LINES = 20


class LogBook:
    """Writes each line, prefixed with its service's name, to a stream and a rotating file. Threads may share it."""

    def __init__(self, path: Path, names: list[str], stream: TextIO | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._stream = stream or sys.stdout
        self._width = max((len(name) for name in names), default=0)
        self._colors = {name: f"\033[{COLORS[i % len(COLORS)]}m" for i, name in enumerate(names)}
        self._file = RotatingFileHandler(path, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8")
        self._last: dict[str, deque[str]] = {}
        self._lock = threading.Lock()

    def write(self, service: str, line: str) -> None:
        """Add one line of a service."""
        plain = f"{service:<{self._width}} | {line}"
        with self._lock:
            self._last.setdefault(service, deque(maxlen=REMEMBERED_LINES)).append(line)
            self._file.emit(logging.makeLogRecord({"msg": "%s", "args": (plain,)}))
            self._show(self._painted(service, line) if self._is_terminal() else plain)

    def last_lines(self, service: str, count: int = 8) -> list[str]:
        """The newest lines of a service, for an error message."""
        with self._lock:
            return list(self._last.get(service, []))[-count:]

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _painted(self, service: str, line: str) -> str:
        color = self._colors.get(service, "")
        return f"{color}{service:<{self._width}} |{RESET} {line}"

    def _is_terminal(self) -> bool:
        return not self._stream.closed and self._stream.isatty()

    def _show(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (
            OSError,
            ValueError,
        ):  # nobody reads our output now (`mpa up | head`); the file gets the line
            pass
