"""Logs: one line per event, as text for people or JSON for machines, with service, job, shard and trace ids."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from shared.settings import CommonSettings
from shared.telemetry.tracing import trace_id

CONTEXT_FIELDS = ("job_id", "shard", "checkpoint", "request_id", "trace_id")
_fields: ContextVar[dict[str, object]] = ContextVar("mpa_log_fields", default={})  # noqa: B039 - never changed in place


@contextmanager
def log_fields(**fields: object) -> Iterator[None]:
    """Every line that is logged inside the block carries these ids, whichever module logs it."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def _ids(record: logging.LogRecord) -> dict[str, object]:
    """The ids of the context; those that the line itself names take precedence."""
    found = dict(_fields.get())
    if (trace := trace_id()) is not None:
        found["trace_id"] = trace
    found.update({name: getattr(record, name) for name in CONTEXT_FIELDS if hasattr(record, name)})
    return {name: found[name] for name in CONTEXT_FIELDS if name in found}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, service, logger, message, ids and exception."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update(_ids(record))
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """``12:00:00 INFO  parity.collect  message  job_id=… shard=…``."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        ids = " ".join(f"{name}={value}" for name, value in _ids(record).items())
        line = f"{time} {record.levelname:<7} {record.name}: {record.getMessage()}" + (f"  {ids}" if ids else "")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def setup_logging(service: str, settings: CommonSettings) -> None:
    """Send all logs of this process to stderr in the configured format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service) if settings.log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    logging.captureWarnings(True)
    for noisy in ("httpx", "httpcore", "urllib3", "PIL", "filelock", "uvicorn.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "celery"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
