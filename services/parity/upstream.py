"""Calls to the teacher and the student that outlast outages: a server that is away delays a job, never fails it."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass

from shared.client import ChatClient, ChatReply
from shared.contracts import ChatRequest
from shared.errors import MPAError, Unavailable, UpstreamError

log = logging.getLogger(__name__)

REFUSING_STATUSES = (400, 413, 415, 422)


class RequestRefused(MPAError):
    """The server is up but will not serve this one request; ``detail`` says why."""

    status, slug, title = 502, "request-refused", "A model server refused a request"


@dataclass(frozen=True)
class Patience:
    """Pauses in seconds. ``server_errors``: tries of a request answered with 5xx (other than 502-504) or nonsense.

    ``overtaken``: failures of a request while others succeed in between, before it is given up.
    """

    first: float = 0.5
    longest: float = 10.0
    longest_asked: float = 60.0
    server_errors: int = 4
    overtaken: int = 12


class Upstream:
    """One model server. ``waiting_for`` says what is waited for while it is away; ``changed`` is set with it."""

    def __init__(
        self,
        name: str,
        client: ChatClient,
        calls: asyncio.Semaphore,
        changed: asyncio.Event,
        patience: Patience | None = None,
    ) -> None:
        self.name, self.client = name, client
        self.waiting_for: str | None = None
        self._calls, self._changed, self._patience = calls, changed, patience or Patience()
        self._successes = 0
        self._failures_since_success = 0

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Ask until answered. Raises RequestRefused, and UpstreamError for what waiting cannot heal (401, 404 …)."""
        patience, tries, broken, overtaken = self._patience, 0, 0, 0
        while True:
            seen = self._successes
            try:
                async with self._calls:
                    reply = await self.client.chat(request)
            except Unavailable as error:
                self._failed(error)
                overtaken += self._successes > seen
                if overtaken >= patience.overtaken:
                    raise RequestRefused(f"The {self.name} served others but never this: {error.detail}") from error
                pause = self._pause(tries, error.retry_after)
            except UpstreamError as error:
                broken += 1
                self._judge(error, broken)
                pause = self._pause(tries, error.retry_after)
            else:
                self._succeeded()
                return reply
            tries += 1
            await asyncio.sleep(pause)

    def _judge(self, error: UpstreamError, broken: int) -> None:
        """Raises unless another try may help."""
        status = error.upstream_status or 500
        if status in REFUSING_STATUSES:
            self._succeeded()
            raise RequestRefused(f"The {self.name} refused the request: {error.detail}") from error
        if 300 <= status < 500:
            raise error
        if broken >= self._patience.server_errors:
            raise RequestRefused(f"The {self.name} failed on this {broken} times: {error.detail}") from error

    def _pause(self, tries: int, asked: float | None) -> float:
        if asked is not None:
            return min(asked, self._patience.longest_asked)
        # Calls that failed together must not come back together.
        return min(self._patience.longest, self._patience.first * 2.0 ** min(tries, 30)) * random.uniform(0.5, 1.0)

    def _failed(self, error: Unavailable) -> None:
        self._failures_since_success += 1
        if self._failures_since_success == 2:
            log.warning("Waiting for the %s at %s: %s", self.name, self.client.base_url, error.detail)
            self._say(f"{self.name} at {self.client.base_url}: {error.detail}")

    def _succeeded(self) -> None:
        self._successes += 1
        self._failures_since_success = 0
        if self.waiting_for is not None:
            log.info("The %s at %s answers again.", self.name, self.client.base_url)
            self._say(None)

    def _say(self, waiting_for: str | None) -> None:
        self.waiting_for = waiting_for
        self._changed.set()
