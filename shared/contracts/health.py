"""The health of services and workers, and what went wrong with a request."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field

from shared.contracts.base import Contract, Finite, finite


class Health(Contract):
    """``/readyz``: ready says whether real work would be served now; ``reason`` says why not."""

    service: str = Field(description="name of the service")
    ready: bool = Field(description="whether real work would be done now")
    reason: str = Field("", description="why it is not ready; empty if it is")
    details: Annotated[dict[str, Any], AfterValidator(finite)] = Field(
        default_factory=dict, description="what else is worth knowing, by name"
    )


class Alive(Contract):
    """``/healthz``: the process answers. ``release`` of MPA is empty from a release that did not report it."""

    service: str = Field(description="name of the service")
    status: str = Field("alive", description="always alive")
    release: str = Field("", description="release of MPA that runs; empty from a release that did not report it")
    schema_version: int = Field(1, description="lowest schema that records of this release need")


class Problem(Finite):
    """RFC 9457 problem details."""

    model_config = ConfigDict(extra="allow")
    type: str = Field(description="urn:mpa:problem:<name>, a stable name of the problem")
    title: str = Field(description="the kind of problem, in words")
    status: int = Field(description="HTTP status of the response")
    detail: str = Field(description="what is wrong with which input, and what to do about it")


class WorkerInfo(Contract):
    """What a worker says about itself while it lives. ``kind``: parity or trainer."""

    id: str
    kind: str
    host: str
    release: str
    schema_version: int = 1
    started_at: datetime
    seen_at: datetime


class FindingState(StrEnum):
    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"
    SKIPPED = "skipped"


class Finding(Contract):
    """One line of `mpa doctor`: what was looked at, what was found, and what to do about it."""

    check: str
    state: FindingState
    found: str
    fix: str = ""


class Diagnosis(Contract):
    """`mpa doctor --json`. Healthy: nothing is broken; warnings may remain."""

    healthy: bool
    release: str
    findings: list[Finding]
