"""Routes that show and control the rollout over all replicas."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from services.student.rollout.replica import Replica
from shared.contracts import CanaryDecision, CanaryReport, CanaryRequest, RolloutView, SwapResult
from shared.http import errors

router = APIRouter(prefix="/v1/rollout", tags=["rollout"])


def replica_of(request: Request) -> Replica:
    replica: Replica = request.app.state.replica
    return replica


ReplicaDep = Annotated[Replica, Depends(replica_of)]


@router.get("", responses=errors(404, 409, 503))
async def show_rollout(replica: ReplicaDep) -> RolloutView:
    """All replicas with their versions, and the canary with its counts."""
    return await replica.view()


@router.put("/canary", responses=errors(404, 409, 503))
async def start_canary(body: CanaryRequest, replica: ReplicaDep) -> CanaryReport:
    """Serve a candidate alongside the active version. Answers when it serves on this replica."""
    return await replica.report(await replica.canary.start(body))


@router.post("/canary/promote", responses=errors(404, 409, 503))
async def promote_canary(body: CanaryDecision, replica: ReplicaDep) -> SwapResult:
    """Make the candidate active. Answers when it is active on this replica."""
    return await replica.canary.promote(body.by, body.reason)


@router.post("/canary/abort", responses=errors(404, 409, 503))
async def abort_canary(body: CanaryDecision, replica: ReplicaDep) -> CanaryReport:
    """Send all requests to the active version again."""
    return await replica.report(await replica.canary.abort(body.by, body.reason))
