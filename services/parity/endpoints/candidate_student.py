"""The student of a later round: one candidate, served alongside the active version and only to this job."""

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

# A candidate whose job died is freed after this time. As long as a shard needs it, it is asked for again well before.
LIFETIME = 900.0
LOAD_SECONDS = 300.0
TAKEN, MISSING = 409, 404
# What else the student's rollout says about a candidate itself; the rest are outages, like any failure of a server.
ABOUT_THE_CANDIDATE = (400, 422)
# How long a shard waits while another canary has the place. It must not keep a worker from other jobs.
POSTPONED = 15.0
# The status of a call that was only turned away. Waiting for it never counts against the question (see Endpoint).
TURNED_AWAY = 429


class NoPlace(Unavailable):
    """Another canary, or the candidate of another job, is already served alongside the active version."""


class NeverServed(UpstreamError):
    """The student refuses the candidate itself: waiting does not help, and no question is at fault."""


class CandidateStudent(StudentClient):
    """A student of which only ``version`` answers.

    If that version is not being served, the call asks for it and raises Unavailable, so that the caller waits and can
    say for what.
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
        reply = await self._served(lambda: super(CandidateStudent, self).chat(request))
        self._check(reply.checkpoint)
        return reply

    async def score(self, request: ScoreRequest) -> ScoreResponse:
        scored = await self._served(lambda: super(CandidateStudent, self).score(request))
        self._check(scored.checkpoint)
        return scored

    async def attention(self, request: AttentionRequest) -> AttentionResponse:
        looked = await self._served(lambda: super(CandidateStudent, self).attention(request))
        self._check(looked.version)
        return looked

    async def admitted(self, timeout: float) -> None:
        """Load the candidate before the first question, if that takes at most ``timeout`` seconds.

        Raises NoPlace. If the student is down or needs longer, the calls themselves wait for it.
        """
        try:
            await self._hold(timeout)
        except NoPlace:
            raise
        except Unavailable as error:
            log.info("The private candidate %s is not loaded yet: %s", self.version, error.detail)

    async def keep(self) -> None:
        """Extend the candidate's lifetime until cancelled. A call that finds it gone brings it back anyway."""
        while True:
            await asyncio.sleep(LIFETIME / 3)
            try:
                await self._hold()
            except MPAError as error:
                log.info(
                    "The lifetime of the private candidate %s could not be extended: %s", self.version, error.detail
                )

    async def _served(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await call()
        except UpstreamError as error:
            if NOT_SERVED not in error.detail:
                raise
        async with self._asking:
            await self._hold()
        # If there are several replicas, the others follow the one that was just asked within seconds.
        raise Unavailable(f"{self.model} is being loaded.", retry_after=0.5, upstream_status=TURNED_AWAY)

    async def _hold(self, timeout: float = LOAD_SECONDS) -> None:
        """Ask for the candidate. Raises Unavailable while it cannot be served, and NeverServed if it never can."""
        request = CanaryRequest(version=self.version, share=0.0, compare=0.0, lifetime_seconds=LIFETIME, by=self._owner)
        try:
            await self.start_canary(request, timeout)
        except UpstreamError as error:
            if error.upstream_status == TAKEN:
                if (await self.checkpoints()).active == self.version:
                    return  # it was promoted in the meantime
                raise NoPlace(f"no place for {self.model}: {error.detail}", upstream_status=TURNED_AWAY) from error
            named = error.upstream_status == MISSING and self.version in error.detail
            if named or error.upstream_status in ABOUT_THE_CANDIDATE:
                raise NeverServed(
                    f"The student refuses to serve {self.version}: {error.detail}",
                    upstream_status=error.upstream_status,
                ) from error
            raise Unavailable(f"{self.model} cannot be loaded: {error.detail}") from error

    def _check(self, answered: str | None) -> None:
        if answered != self.version:
            raise Unavailable(
                f"{self.model} was asked, but {answered or 'an unknown version'} answered.", retry_after=1.0
            )


def free_candidate(store: Store, student: str, job_id: str) -> None:
    """End the job's private candidate, if it has one. If this fails, the candidate expires later."""
    if CanaryRegistry(store, student).end_private(owner_of(job_id), "the round is over"):
        log.info("Freed the private candidate.", extra={"job_id": job_id})


async def check_candidates(student: StudentClient, spec: JobSpec) -> None:
    """Raises InvalidInput if the student service says that it cannot serve the job's candidates alongside the active
    version. On vLLM it can only serve a LoRA adapter of the active weights, so only the candidate of the first round.

    A student that does not answer, or whose release does not say, passes the check.
    """
    try:
        offered = (await student.health()).details.get("candidates", "any")
    except MPAError:
        return
    fitting = spec.train.method == "lora" and spec.rounds.max == 2
    if offered == "none" or (offered == "adapters" and not fitting):
        limit = "no candidate" if offered == "none" else "only the LoRA adapter of a first round"
        raise InvalidInput(
            f"rounds.max: the student at {student.base_url} serves {limit} alongside the active version, but rounds "
            "need it to serve one: start it with MPA_STUDENT_ENGINE=transformers, set rounds.max to 1, or, on vLLM "
            "with MPA_STUDENT_VLLM_LORA=true, set rounds.max to 2 and train.method to lora."
        )
