"""The student service: chat, checkpoints and the rollout."""

from __future__ import annotations

from shared.client.chat import ChatClient
from shared.contracts import (
    ActivateRequest,
    CanaryDecision,
    CanaryReport,
    CanaryRequest,
    CheckpointList,
    RolloutView,
    SwapResult,
)


class StudentClient(ChatClient):
    """The student service."""

    async def checkpoints(self) -> CheckpointList:
        return await self._call(CheckpointList, "GET", "/v1/checkpoints")

    async def activate(self, version: str, by: str, timeout: float = 300.0) -> SwapResult:
        # A little less than our timeout, so that the answer arrives and says whether the swap happened.
        body = ActivateRequest(version=version, by=by, deadline_seconds=0.95 * timeout).model_dump()
        return await self._call(SwapResult, "PUT", "/v1/checkpoints/active", json=body, timeout=timeout)

    async def rollback(self, timeout: float = 300.0) -> SwapResult:
        return await self._call(SwapResult, "POST", "/v1/checkpoints/rollback", timeout=timeout)

    async def rollout(self) -> RolloutView:
        return await self._call(RolloutView, "GET", "/v1/rollout")

    async def start_canary(self, request: CanaryRequest, timeout: float = 300.0) -> CanaryReport:
        body = request.model_dump(mode="json")
        return await self._call(CanaryReport, "PUT", "/v1/rollout/canary", json=body, timeout=timeout)

    async def promote_canary(self, by: str, reason: str = "by call", timeout: float = 300.0) -> SwapResult:
        body = CanaryDecision(by=by, reason=reason).model_dump()
        return await self._call(SwapResult, "POST", "/v1/rollout/canary/promote", json=body, timeout=timeout)

    async def abort_canary(self, by: str, reason: str = "by call", timeout: float = 300.0) -> CanaryReport:
        body = CanaryDecision(by=by, reason=reason).model_dump()
        return await self._call(CanaryReport, "POST", "/v1/rollout/canary/abort", json=body, timeout=timeout)
