"""What the type of a setting does not say: a value that could only fail later is refused when the process starts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec

from shared.settings.redis_url import parse_redis_url

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
HIGHEST_PORT = 65535


def check_setting(name: str, value: Any) -> None:
    """Raises ValueError that says what to write instead. ``name`` as in the settings class."""
    if isinstance(value, timedelta):
        _check_duration(name, value)
    elif name == "redis_url":
        parse_redis_url(value)
    elif name.endswith("_url"):
        _check_url(value, ("http", "https"))
    elif name.endswith("_port") and value is not None and value > HIGHEST_PORT:
        raise ValueError(f"port {value} does not exist: use 0 to {HIGHEST_PORT}")
    elif name == "store" and value:
        _check_store(value)
    elif name == "log_level" and value.upper() not in LEVELS:
        raise ValueError(f"{value!r} is not a log level: use one of {', '.join(LEVELS)}")


def check_file(path: str) -> None:
    """Raises ValueError unless it is a file. Checked when a process starts, not wherever its settings are read."""
    if not Path(path).is_file():
        raise ValueError(f"{path} is not a file that this process can see")


def check_secrets_folder(folder: str) -> None:
    """A folder of keys that is not there must not leave a service without its key."""
    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is not a folder: mount the secrets there, or unset it")


def _check_duration(name: str, value: timedelta) -> None:
    if value < timedelta(0):
        raise ValueError("a duration cannot be negative")
    if not value and (name == "lease" or name.endswith(("_timeout", "_every"))):
        raise ValueError("must be longer than 0 s")


def _check_url(value: str, schemes: tuple[str, ...]) -> None:
    try:
        parts = urlsplit(value)
        port_is_read = parts.port
    except ValueError as error:
        raise ValueError(f"{value!r} is not a URL: {error}") from None
    if parts.scheme not in schemes or not (parts.hostname or port_is_read):
        raise ValueError(f"{value!r} is not an address: write {schemes[0]}://host:port")


def _check_store(value: str) -> None:
    scheme = urlsplit(value).scheme or "file"
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        fix = "pip install 'mpa[s3]'" if scheme in ("s3", "s3a") else str(error)
        raise ValueError(f"{scheme}:// needs a package that is not installed here: {fix}") from None
    except ValueError:
        raise ValueError(f"{scheme}:// is unknown: use file://, s3://, gs:// or memory://") from None
