"""Replicas of a student, and canaries."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import ConfigDict, Field, model_validator

from shared.contracts.base import NAME_PATTERN, Contract, Stored
from shared.contracts.checkpoints import ActivePointer


class CanaryState(StrEnum):
    """``promoting``: somebody's call or the rule has decided, and the swap is on its way."""

    RUNNING = "running"
    PROMOTING = "promoting"
    PROMOTED = "promoted"
    ABORTED = "aborted"

    @property
    def is_final(self) -> bool:
        return self in (CanaryState.PROMOTED, CanaryState.ABORTED)


class CanaryRule(Contract):
    """When the replicas end a canary on their own. Nothing is judged before ``min_requests`` candidate answers.

    A broken limit aborts the canary. If all limits are kept and ``promote`` is set, the candidate is promoted. A limit
    of None is not checked.
    """

    min_requests: int = Field(200, ge=1, description="answers of the candidate before anything is judged")
    min_seconds: float = Field(0.0, ge=0, description="promote no earlier than this after the start")
    max_error_rate: float | None = Field(0.01, ge=0, le=1, description="candidate answers that failed")
    max_latency_ratio: float | None = Field(1.5, gt=0, description="candidate's p95 over the active version's")
    min_agreement: float | None = Field(
        None, ge=0, le=1, description="share of compared answers equal to the active one's"
    )
    max_seconds: float | None = Field(None, gt=0, description="abort what is not decided after this time")
    promote: bool = Field(False, description="True: promote by rule; False: the rule only aborts")


class CanaryRequest(Contract):
    """``PUT /v1/rollout/canary``: serve ``version`` beside the active one to ``share`` of the requests.

    ``compare``: share of the candidate's greedy answers whose question the active version answers too, in the
    background, to count agreement. With share 0 the candidate is private: it answers only requests for
    ``student@<version>``, and the canary ends ``lifetime_seconds`` after the last of them.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"version": "job-20261128-101500-7f3a2c1e", "share": 0.05, "by": "eve"}]}
    )

    version: str = Field(pattern=NAME_PATTERN, description="version to serve alongside the active one")
    share: float = Field(0.05, ge=0, le=1, description="share of the requests that it answers, 0-1; 0: it is private")
    compare: float = Field(
        1.0, ge=0, le=1, description="share of its greedy answers that are compared with the active version's, 0-1"
    )
    rule: CanaryRule | None = Field(None, description="when the canary ends on its own; null: never")
    lifetime_seconds: float | None = Field(None, gt=0, description="of a private candidate, unless asked for again")
    by: str = Field("api", description="who asks for it")

    @model_validator(mode="after")
    def _private_ones_end(self) -> CanaryRequest:
        if (self.share == 0) != (self.lifetime_seconds is not None):
            raise ValueError("share 0 (a private candidate) needs lifetime_seconds, and no other share takes it")
        return self


class CanaryDecision(Contract):
    """``POST /v1/rollout/canary/promote`` and ``…/abort``: who decides, and why."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"by": "eve", "reason": "as good as the old one"}]})

    by: str = Field("api", description="who decides")
    reason: str = Field("by call", max_length=500, description="why")


class Canary(Stored):
    """The latest canary of a student, as the registry keeps it. ``baseline`` is what was active when it began."""

    id: str = Field(description="id of the canary")
    revision: int = Field(ge=0, description="grows with every change, over all canaries of the student")
    student: str = Field(description="name of the student")
    version: str = Field(description="version that is tried")
    baseline: str = Field(description="version that was active when it began")
    share: float = Field(description="share of the requests that it answers, 0-1")
    compare: float = Field(description="share of its greedy answers that are compared, 0-1")
    rule: CanaryRule | None = Field(description="when it ends on its own")
    state: CanaryState = Field(description="where the canary is")
    started_by: str = Field(description="who started it")
    started_at: datetime = Field(description="when it began")
    changed_by: str = Field(description="who changed it last")
    changed_at: datetime = Field(description="when it last changed")
    reason: str = Field("", description="why it changed, in words")
    expires_at: datetime | None = Field(None, description="of a private candidate: when it ends unless asked for again")

    @property
    def is_private(self) -> bool:
        """Whether it gets only requests that ask for its version."""
        return self.share == 0


class VersionStats(Contract):
    """How one version did during a canary. Latencies are in seconds, for whole answers; None before the first one."""

    version: str = Field(description="version of the checkpoint")
    requests: int = Field(0, description="requests that it answered")
    errors: int = Field(0, description="requests the version failed; the candidate's were answered by the active one")
    latency_mean: float | None = Field(None, description="mean time of a whole answer, in seconds")
    latency_p50: float | None = Field(None, description="median time of a whole answer, in seconds")
    latency_p95: float | None = Field(None, description="95th percentile of that time, in seconds")
    latency_p99: float | None = Field(None, description="99th percentile of that time, in seconds")


class CanaryReport(Contract):
    """A canary and what all replicas counted since it began. ``verdict``: what its rule says at present."""

    canary: Canary = Field(description="the canary")
    active: VersionStats = Field(description="how the active version did")
    candidate: VersionStats = Field(description="how the candidate did")
    compared: int = Field(0, description="answers that were compared")
    agreement: float | None = Field(None, description="share of the compared answers that are equal, 0-1")
    verdict: str = Field("", description="what the rule says now, in words")


class ReplicaInfo(Contract):
    """What one replica says about itself. ``problem``: why it serves something other than it should."""

    id: str = Field(description="id of the replica")
    address: str = Field("", description="host:port it listens on, as it knows it")
    version: str = Field(description="version that it serves")
    generation: int | None = Field(None, description="of the active pointer that it has followed so far")
    candidate: str | None = Field(None, description="version that it serves as a canary, alongside the active one")
    problem: str = Field("", description="why it serves another version than it should")
    queued: int = Field(0, description="requests that wait")
    started_at: datetime = Field(description="when it started")
    seen_at: datetime = Field(description="when it last reported")


class RolloutView(Contract):
    """``GET /v1/rollout``. ``complete`` False: Redis is unavailable, so only the answering replica is listed."""

    student: str = Field(description="name of the student")
    active: ActivePointer = Field(description="which version should serve")
    converged: bool = Field(
        description="all replicas listed serve the active version, and the candidate if there is one"
    )
    replicas: list[ReplicaInfo] = Field(description="all replicas that report")
    complete: bool = Field(description="false: Redis is unavailable, so only the answering replica is listed")
    canary: CanaryReport | None = Field(None, description="the latest canary")
