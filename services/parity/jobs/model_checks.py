"""Checks of the teacher and the student that run before a job is accepted, and before the teacher is paid."""

from __future__ import annotations

import logging

from shared.checkpoints import CheckpointRegistry
from shared.checkpoints.quantisation import words_for
from shared.client import ChatClient
from shared.contracts import ChatMessage, ChatRequest, ChatResponse
from shared.errors import BadCheckpoint, InvalidInput, NotFound, Unavailable, UpstreamError
from shared.store import Store

log = logging.getLogger(__name__)

ALTERNATIVES = 2
REFUSALS = (400, 403, 404, 422, 501)


class UntrainableStudent(InvalidInput):
    """The student's checkpoint cannot be trained, so a job would pay the teacher for nothing."""


def check_trainable(store: Store, student: str) -> bool:
    """Whether the student has a checkpoint yet. Raises UntrainableStudent if the one to train from is quantised.

    The trainer, which has the libraries for it, checks more before its first step.
    """
    registry = CheckpointRegistry(store, student)
    try:
        version = registry.active().version
        method = registry.quantisation(version)
    except NotFound:
        return False  # the student service registers it when it starts
    except BadCheckpoint as error:
        log.warning("the student's checkpoint is not checked: %s", error.detail)
        return False
    if method is not None:
        raise UntrainableStudent(words_for(f"student: checkpoint {version} of {student!r}", method))
    return True


async def check_logprobs(teacher: ChatClient) -> None:
    """Raises InvalidInput if the teacher sends no log-probabilities. A silent teacher passes: the job waits."""
    message = ChatMessage(role="user", content="Say yes.")
    request = ChatRequest(
        model=teacher.model,
        messages=[message],
        max_tokens=1,
        temperature=0.0,
        logprobs=True,
        top_logprobs=ALTERNATIVES,
    )
    try:
        response = (await teacher.chat(request)).response
    except Unavailable as error:
        log.info("The teacher does not answer, so its log-probabilities are not checked: %s", error.detail)
        return
    except UpstreamError as error:
        if error.upstream_status in REFUSALS:
            raise _without(teacher, error.detail) from error
        return
    if not _tells(response):
        raise _without(teacher, "it answers without them")


def _tells(response: ChatResponse) -> bool:
    choice = response.choices[0] if response.choices else None
    return bool(choice and choice.logprobs and choice.logprobs.content)


def _without(teacher: ChatClient, why: str) -> InvalidInput:
    return InvalidInput(
        f"train.loss or identifier.min_confidence needs the teacher's log-probabilities, and {teacher.base_url} "
        f"sends none ({why}): leave min_confidence out, use consistency_by 'candidates' and weigh_by vote_share "
        "alone, or train.loss.preset 'replay' or 'discrepancy', which need none."
    )
