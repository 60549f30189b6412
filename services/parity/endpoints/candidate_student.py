"""The student of a later round: one candidate, served beside the active version to nobody but this job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.checkpoints.canaries import NOT_SERVED, CanaryRegistry, owner_of
from shared.client import ChatReply, StudentClient
from shared.contracts import (
    AttentionRequest,
    AttentionResponse,
    CanaryRequest,
    ChatRequest,
    JobSpec,
    ScoreRequest,
    ScoreResponse,
)
from shared.errors import InvalidInput, MPAError, Unavailable, UpstreamError
from shared.store import Store

log = logging.getLogger(__name__)
T = TypeVar("T")

# A candidate whose job died is freed after this time; while a shard is in work it is asked for again well before.
LIFETIME = 900.0
LOAD_SECONDS = 300.0
TAKEN, NEVER = 409, 404
# How long a shard is left alone while another canary has the place: it must not keep a worker from other jobs.
POSTPONED = 15.0
# The status of a call that was only turned away: waiting for it never counts against the question (see Upstream).
TURNED_AWAY = 429


class NoPlace(Unavailable):
    """Another canary, or another job's candidate, is served beside the active version."""


class PrivateStudent(StudentClient):
    """Every call is answered by ``version`` alone. Where that is not served it is asked to be, and the call raises
    Unavailable, so that the caller waits and tells for what.
    """

    def __init__(
        self, base_url: str, *, student: str, version: str, job_id: str, api_key: str | None, timeout: float, calls: int
    ) -> None:
        super().__init__(
            base_url, model=f"{student}@{version}", api_key=api_key, timeout=timeout, max_connections=calls
        )
        self.version = version
        self._owner = owner_of(job_id)
        self._asking = asyncio.Lock()

    async def chat(self, request: ChatRequest) -> ChatReply:
        reply = await self._served(lambda: super(PrivateStudent, self).chat(request))
        self._check(reply.checkpoint)
        return reply

    async def score(self, request: ScoreRequest) -> ScoreResponse:
        scored = await self._served(lambda: super(PrivateStudent, self).score(request))
        self._check(scored.checkpoint)
        return scored

    async def attention(self, request: AttentionRequest) -> AttentionResponse:
        looked = await self._served(lambda: super(PrivateStudent, self).attention(request))
        self._check(looked.version)
        return looked

    async def admitted(self, timeout: float) -> None:
        """Have the candidate loaded before anything is asked, if that takes no longer than ``timeout`` seconds.

        Raises NoPlace; a student that is down, or takes its time, is waited for by those who ask.
        """
        try:
            await self._hold(timeout)
        except NoPlace:
            raise
        except Unavailable as error:
            log.info("The private candidate %s is not loaded yet: %s", self.version, error.detail)

    async def keep(self) -> None:
        """Prolong the candidate's stay until cancelled. A call that finds it gone brings it back anyway."""
        while True:
            await asyncio.sleep(LIFETIME / 3)
            try:
                await self._hold()
            except MPAError as error:
                log.info("The private candidate %s could not be prolonged: %s", self.version, error.detail)

    async def _served(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await call()
        except UpstreamError as error:
            if NOT_SERVED not in error.detail:
                raise
        async with self._asking:
            await self._hold()
        # Of several replicas, others than the one that was just asked follow within seconds.
        raise Unavailable(f"{self.model} is being loaded.", retry_after=0.5, upstream_status=TURNED_AWAY)

    async def _hold(self, timeout: float = LOAD_SECONDS) -> None:
        """Have the candidate served. Raises Unavailable while that cannot be, and UpstreamError if it never can."""
        request = CanaryRequest(version=self.version, share=0.0, compare=0.0, lifetime_seconds=LIFETIME, by=self._owner)
        try:
            await self.start_canary(request, timeout)
        except UpstreamError as error:
            if error.upstream_status == TAKEN:
                if (await self.checkpoints()).active == self.version:
                    return  # somebody promoted it meanwhile
                raise NoPlace(f"no place for {self.model}: {error.detail}", upstream_status=TURNED_AWAY) from error
            if (error.upstream_status or 500) >= 500:
                raise
            # No question's fault, so that it must not be taken for a refusal of one.
            raise UpstreamError(
                f"The student refuses to serve {self.version}: {error.detail}", upstream_status=NEVER
            ) from error

    def _check(self, answered: str | None) -> None:
        if answered != self.version:
            raise Unavailable(f"{self.model} was asked, but {answered or 'no version'} answered.", retry_after=1.0)


def free_candidate(store: Store, student: str, job_id: str) -> None:
    """End the job's private candidate, if it has one. It ends by itself later should this fail."""
    if CanaryRegistry(store, student).end_private(owner_of(job_id), "the round is over"):
        log.info("Freed the private candidate.", extra={"job_id": job_id})


async def check_candidates(student: StudentClient, spec: JobSpec) -> None:
    """Raises InvalidInput if the student service says that it cannot serve the job's candidates beside the active
    version: on vLLM only a LoRA adapter of the active weights, so that of the first round alone.

    A student that does not answer, or is of a release that says nothing, is taken to be able to.
    """
    try:
        offered = (await student.health()).details.get("candidates", "any")
    except MPAError:
        return
    fitting = spec.train.method == "lora" and spec.rounds.max == 2
    if offered == "none" or (offered == "adapters" and not fitting):
        limit = "no candidate" if offered == "none" else "only the LoRA adapter of a first round"
        raise InvalidInput(
            f"rounds.max: the student at {student.base_url} takes {limit} beside the active version, but rounds need "
            "that: start it with MPA_STUDENT_ENGINE=transformers, set rounds.max to 1, or, on vLLM with "
            "MPA_STUDENT_VLLM_LORA=true, set rounds.max to 2 and train.method to lora."
        )
