"""What all contracts share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Contract(BaseModel):
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
