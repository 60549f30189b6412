"""What all contracts share."""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

EXAMPLE_IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAIAQMAAAD+wSzIAAAABlBMVEX////cHh7/Hx2WAAAAEUlEQVR42mNgYGBgSGNigEEABK4AcXc1iAAA"
    "AABJRU5ErkJggg=="
)
"""Two red bars, as base64 of a PNG file: the examples in OpenAPI can be sent as they are."""
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Finite(BaseModel):
    """Base of every model that is read from or written as JSON, which has neither NaN nor infinity: ``1e999`` is an
    error that names the field. Otherwise it would be written as null, which no reader of the field accepts.
    """

    model_config = ConfigDict(allow_inf_nan=False)


def finite(value: Any) -> Any:
    """A JSON value with null in place of each NaN and infinity, for values of any shape."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return value


def all_finite(value: Any) -> Any:
    """``value``, for fields that hold any JSON. Raises ValueError if there is a NaN or an infinity in it."""
    if finite(value) != value:
        raise ValueError("should hold finite numbers only: JSON has neither NaN nor infinity")
    return value


class Contract(Finite):
    """Base of all contracts: unknown fields are errors, so that a typo in a spec is never ignored."""

    model_config = ConfigDict(extra="forbid")


class Stored(Contract):
    """Base of what outlives the process that wrote it. Readers of another release ignore fields that they do not know;
    a writer that means something they must not ignore raises ``schema_version`` (shared/compatibility.py).
    """

    schema_version: int = Field(
        1,
        ge=1,
        exclude_if=lambda version: version == 1,
        description="lowest schema that a reader has to know; left out if it is 1",
    )
