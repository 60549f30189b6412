"""The steps of leased work, as pure functions: each maps a record to its successor, or raises LeaseLost."""

from __future__ import annotations

from typing import TypeVar

from shared.backoff import Backoff
from shared.errors import LeaseLost
from shared.state.records import Work, WorkStatus, replace

W = TypeVar("W", bound=Work)
RETRIES = Backoff(1.0, 60.0)


def take(work: W, owner: str, token: str, expires: float) -> W:
    """Lease ``work``. The attempt counts from now on."""
    return replace(
        work,
        status=WorkStatus.LEASED,
        owner=owner,
        token=token,
        expires=expires,
        attempts=work.attempts + 1,
        queued=False,
        due=0.0,
        waiting_for=None,
    )


def check_token(work: Work, token: str, what: str) -> None:
    """Raises LeaseLost unless ``token`` holds ``work``. An expired lease stays valid until somebody else takes it."""
    if work.status is not WorkStatus.LEASED or work.token != token:
        raise LeaseLost(f"The lease on {what} was lost: another worker has it, or the job was cancelled.")


def finish(work: W) -> W:
    return replace(_idle(work), status=WorkStatus.DONE)


def give_back(work: W, now: float) -> W:
    """The worker stops for a reason outside the work: the attempt does not count, and the work is due at once."""
    return replace(_idle(work), attempts=max(0, work.attempts - 1), due=now)


def postpone(work: W, waiting_for: str, now: float, pause: float) -> W:
    """Something that the work needs is in use: it is due after ``pause``, and the attempt does not count."""
    return replace(give_back(work, now), due=now + pause, waiting_for=waiting_for)


def fail(work: W, error: str, now: float, max_attempts: int) -> W:
    """The attempt failed: the work is due again after a growing pause, or has failed for good."""
    given_up = work.attempts >= max_attempts
    status = WorkStatus.FAILED if given_up else WorkStatus.PENDING
    return replace(_idle(work), status=status, due=now + RETRIES.delay(work.attempts), error=error, error_at=now)


def mark_queued(work: W, due: float) -> W:
    """A message is being sent. Another one is due at ``due``, unless somebody takes the work before."""
    waiting_for = work.waiting_for if work.status is WorkStatus.PENDING else None
    return replace(_idle(work), queued=True, due=due, waiting_for=waiting_for)


def _idle(work: W) -> W:
    return replace(
        work, status=WorkStatus.PENDING, owner="", token="", expires=0.0, queued=False, due=0.0, waiting_for=None
    )
