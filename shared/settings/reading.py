"""Read the settings of a process, or end it with a list of all that is wrong with them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from shared.errors import MPAError
from shared.settings.checks import check_file, check_secrets_folder
from shared.settings.common import SECRETS_DIR_VARIABLE, CommonSettings

S = TypeVar("S", bound=CommonSettings)
BAD_SETTINGS = 2


def read_settings(kind: type[S], *checks: Callable[[S], object]) -> S:
    """The settings of a process. If values are bad, prints all problems and ends the process with exit code 2.

    ``checks`` look at valid settings once more; each raises MPAError for what its service cannot start with.
    """
    refuse_bad_settings(kind)
    settings = kind()
    _refuse([problem for check in checks for problem in _problems_of(check, settings)])
    return settings


def refuse_bad_settings(*kinds: type[CommonSettings]) -> None:
    """Print all bad values in settings of these kinds; if there are any, end the process with exit code 2."""
    found = [problem for kind in kinds for problem in _problems_in(kind)]
    _refuse(list(dict.fromkeys([*_problems_at(SECRETS_DIR_VARIABLE, check_secrets_folder), *found])))


def _refuse(problems: list[str]) -> None:
    if not problems:
        return
    number = "a setting is" if len(problems) == 1 else f"{len(problems)} settings are"
    lines = "\n".join(f"  {problem}" for problem in problems)
    sys.stderr.write(f"error: {number} not valid (docs/configuration.md has all of them):\n{lines}\n")
    raise SystemExit(BAD_SETTINGS)


def _problems_in(kind: type[CommonSettings]) -> list[str]:
    """All problems, with the variables' names."""
    files = [] if "tasks_file" not in kind.model_fields else _problems_at("MPA_TASKS_FILE", check_file)
    try:
        kind()
    except ValidationError as error:
        return files + [
            f"MPA_{'.'.join(map(str, item['loc'])).upper()}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        ]
    return files


def _problems_at(variable: str, check: Callable[[str], None]) -> list[str]:
    """What a check reports about a variable, if that is set."""
    value = os.environ.get(variable)
    try:
        if value:
            check(value)
    except ValueError as error:
        return [f"{variable}: {error}"]
    return []


def _problems_of(check: Callable[[S], object], settings: S) -> list[str]:
    try:
        check(settings)
    except MPAError as error:
        return [error.detail]
    return []
