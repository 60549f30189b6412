"""The teacher's second looks at its own answer: whether it is one at all, and whether it is right."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from services.parity.endpoints.endpoint import Endpoint
from services.parity.endpoints.patience import RequestRefused
from services.parity.images.picture import Picture
from services.parity.mining.hearing import has_begun, hear
from services.parity.mining.pairs import NONE, Answered, Tokens
from shared.client import image_question
from shared.contracts import Cause, ChatMessage, ChatRequest, Verdict
from shared.vqa.reading.replies import SHOWN
from shared.vqa.reading.yes_no import says_yes
from shared.vqa.tasks import TaskProfile

log = logging.getLogger(__name__)
LONGEST_SHOWN = 40


@dataclass(frozen=True)
class Doubt:
    """Why a pair is not kept after all."""

    verdict: Verdict
    reason: str
    cause: Cause | None = None


async def check_refusal(
    teacher: Endpoint, pair: Answered, picture: Picture, profile: TaskProfile
) -> tuple[Doubt | None, Tokens]:
    """Ask the teacher, without the image, if its answer declines. None if it does not say so clearly.

    A refusal wins all votes and every student is wrong about it, whatever its words: no list can hold them all.
    Only a clear "no" counts, so that a teacher that cannot answer this loses no pairs.
    """
    prompt = profile.answerable_prompt(pair.question, pair.answer)
    if not prompt:
        return None, NONE
    request = ChatRequest(
        model=teacher.client.model,
        messages=[ChatMessage(role="user", content=prompt)],
        max_tokens=profile.max_answer_tokens,
        temperature=0.0,
    )
    try:
        heard = await hear(teacher, request, picture.rank)
    except RequestRefused as refusal:
        log.debug("A pair is kept without a check for a refusal: %s", refusal.detail)
        return None, NONE
    if says_yes(heard.first.text) is not False:
        return None, heard.spent
    reason = f"Asked whether {pair.answer[:SHOWN]!r} is an answer at all, the teacher says no."
    return Doubt(Verdict.REFUSED, reason, Cause.DECLINED), heard.spent


async def cross_check(
    teacher: Endpoint, pair: Answered, picture: Picture, profile: TaskProfile
) -> tuple[Doubt | None, Tokens]:
    """Ask the teacher in a separate question if its answer is right. None only if it clearly says yes.

    Raises RequestRefused.
    """
    prompt = profile.check_prompt(pair.question, pair.answer)
    if not prompt:
        return None, NONE
    request = image_question(
        teacher.client.model, picture.url, prompt, max_tokens=profile.max_answer_tokens, temperature=0.0
    )
    heard = await hear(teacher, request, picture.rank, raise_by=profile.raise_limit_by, usable=has_begun)
    said = heard.first.text.strip()
    if not said:
        reason = heard.first.problem("The teacher's check of its own answer", heard.limit)
    elif says_yes(said):
        return None, heard.spent
    else:
        reason = f"Asked whether its answer is right, the teacher says {said[:LONGEST_SHOWN]!r}."
    return Doubt(Verdict.TEACHER_INCONSISTENT, reason), heard.spent
