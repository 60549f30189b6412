"""Which release this is, and how it reads what another release has written.

Whatever outlives its writer, or crosses from one process to another, may come from a release before or after this one:
fields that this release does not know are ignored, and those it misses have their defaults. What cannot be ignored is
marked by the writer with a ``schema_version`` above the reader's, and refused in words: docs/upgrading.md.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel

from shared.errors import NewerSchema

RELEASE = "0.1.0"
SCHEMA = 1
"""The newest ``schema_version`` that this release can work on."""

M = TypeVar("M", bound=BaseModel)


def check_schema(number: int, what: str) -> None:
    """Raises NewerSchema if ``what`` needs a later release than this one."""
    if number > SCHEMA:
        raise NewerSchema(
            f"{what} has schema {number}, and release {RELEASE} of MPA knows schemas up to {SCHEMA}: "
            "run what has to read it from the release that wrote it, see docs/upgrading.md."
        )


def read_shown(model: type[M], data: str | bytes) -> M:
    """``data`` as far as this release understands it, to be shown. Raises ValueError for what is no such document."""
    return model.model_validate_json(data, extra="ignore")


def read_stored(model: type[M], data: str | bytes, what: str) -> M:
    """``data`` to work by. Raises NewerSchema, and ValueError for what is no such document."""
    found = read_shown(model, data)
    check_schema(getattr(found, "schema_version", 1), what)
    return found
