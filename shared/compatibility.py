"""Which release this is, and how it reads what another release has written.

Whatever outlives its writer, or crosses from one process to another, may come from a release before or after this one:
this release ignores fields that it does not know, and uses defaults for missing ones. If a change cannot be ignored,
the writer raises ``schema_version`` above the reader's, and the reader refuses it with an error: docs/upgrading.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from shared.errors import Damaged, MPAError, NewerSchema

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


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Errors that come from content that nobody wrote there become Damaged, which names ``what``."""
    try:
        yield
    except MPAError:
        raise
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Damaged(f"{what} is damaged: {place + ': ' if place else ''}{first['msg']}.") from error
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise Damaged(f"{what} is damaged ({type(error).__name__}: {error}).") from error


def read_shown(model: type[M], data: str | bytes) -> M:
    """``data`` as far as this release understands it, for display. Raises ValueError if it is not such a document."""
    return model.model_validate_json(data, extra="ignore")


def read_stored(model: type[M], data: str | bytes, what: str) -> M:
    """``data`` to act on. Raises NewerSchema, and Damaged if it is not such a document."""
    with reading(what):
        found = read_shown(model, data)
    check_schema(getattr(found, "schema_version", 1), what)
    return found
