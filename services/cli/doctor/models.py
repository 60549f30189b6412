"""Checks of both models with questions about pictures, and of the student's version against the registry."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from services.cli.doctor.checks import broken, in_thread, ok, warning
from services.cli.doctor.picture import SQUARE, STRIPES
from shared.checkpoints import CheckpointRegistry
from shared.checkpoints.canaries import CanaryRegistry
from shared.client import ChatClient, ChatReply, image_question
from shared.contracts import Finding, TokenLogprob
from shared.errors import NotFound
from shared.store import Store
from shared.vqa.reading.replies import Ending, first_reply

QUESTION = "What is in the picture? Answer in a few words."
MOST_TOKENS = 24
LONGEST_RUN = 12


async def teacher_findings(teacher: ChatClient, reasoning_tokens: int = 0) -> list[Finding]:
    """Whether the teacher answers in words, looks at the picture, and returns log-probabilities.

    ``reasoning_tokens``: what it may think in (MPA_TEACHER_REASONING_TOKENS).
    """
    most = MOST_TOKENS + reasoning_tokens
    first, second = await _ask(teacher, SQUARE, most), await _ask(teacher, STRIPES, most)
    if first_reply(first.response).ending is Ending.THINKING:
        return [_still_thinking("teacher", teacher, most)]
    wrong = _implausible(_text(first))
    if wrong:
        return [_bad_answer("teacher's answer", teacher, first, wrong)]
    found = [ok("teacher's answer", f"{_text(first)!r} about a picture, {_text(second)!r} about another")]
    told, other = _logprobs(first), _logprobs(second)
    if not told:
        return [
            *found,
            warning(
                "teacher's logprobs",
                "its answers come without them",
                "Jobs run, but measure no confidence: have the endpoint return `logprobs` (vLLM does), or leave "
                "`identifier.min_confidence` and the losses that need them out of job specs.",
            ),
        ]
    if not all(math.isfinite(token.logprob) and token.logprob <= 1e-3 for token in told):
        return [*found, broken("teacher's logprobs", "some are not logarithms of probabilities", _SERVER)]
    if _text(first) == _text(second) and [t.logprob for t in told] == [t.logprob for t in other]:
        return [
            broken(
                "teacher's answer",
                f"two very different pictures get {_text(first)!r} with equal probabilities: it sees neither of them",
                "Serve a vision model, with its own chat template: this endpoint drops the image.",
            )
        ]
    return [*found, ok("teacher's logprobs", f"present for all {len(told)} tokens")]


async def student_findings(
    student: ChatClient, open_store: Callable[[], Store], name: str, reasoning_tokens: int = 0
) -> list[Finding]:
    """Whether the student answers about a picture, with the version that the registry has as active or as canary.

    ``reasoning_tokens``: what it may think in (MPA_STUDENT_REASONING_TOKENS).
    """
    most = MOST_TOKENS + reasoning_tokens
    reply = await _ask(student, SQUARE, most)
    wrong = _implausible(_text(reply))
    if first_reply(reply.response).ending is Ending.THINKING:
        answer = _still_thinking("student", student, most)
    elif wrong:
        answer = _bad_answer("student's answer", student, reply, wrong)
    else:
        answer = ok("student's answer", f"{_text(reply)!r} about a picture")
    if reply.checkpoint is None:
        return [answer, broken("student's version", "it does not report one", "Set MPA_STUDENT_URL to MPA's student.")]
    return [answer, await in_thread(lambda: _version(reply.checkpoint or "", open_store(), name))]


def _still_thinking(who: str, client: ChatClient, most: int) -> Finding:
    return broken(
        f"{who}'s answer",
        f"{client.base_url} is still thinking after {most} tokens",
        f"Raise MPA_{who.upper()}_REASONING_TOKENS, or switch the model's reasoning off at its server.",
    )


def _version(serves: str, store: Store, name: str) -> Finding:
    try:
        active = CheckpointRegistry(store, name).active().version
    except NotFound:
        return broken(
            "student's version",
            f"it serves {serves}, but {store.url} has no checkpoint of {name!r}",
            "Give this command and the services the same MPA_STORE and MPA_STUDENT_NAME.",
        )
    if serves == active:
        return ok("student's version", f"{serves}, as the registry says")
    canary = CanaryRegistry(store, name).latest()
    if canary is not None and not canary.state.is_final and canary.version == serves:
        return ok("student's version", f"{serves}, the canary alongside {active}")
    return broken(
        "student's version",
        f"it serves {serves}, but the registry says {active}",
        "Read the student's log and `mpa rollout`: the version may have been refused as damaged (roll back with "
        "`mpa rollback`), or the replica has a different MPA_STORE.",
    )


async def _ask(client: ChatClient, picture: str, most: int = MOST_TOKENS) -> ChatReply:
    return await client.chat(
        image_question(client.model, picture, QUESTION, max_tokens=most, temperature=0.0, logprobs=True)
    )


def _text(reply: ChatReply) -> str:
    return first_reply(reply.response).text.strip()


def _logprobs(reply: ChatReply) -> Sequence[TokenLogprob]:
    choices = reply.response.choices
    told = choices[0].logprobs if choices else None
    return told.content or [] if told else []


def _implausible(text: str) -> str:
    """Why this cannot be an answer in words; empty if it can."""
    if not any(letter.isalnum() for letter in text):
        return "it says nothing"
    if not text.isprintable() and any(not letter.isprintable() and not letter.isspace() for letter in text):
        return "it contains unprintable characters"
    if "\N{REPLACEMENT CHARACTER}" in text:
        return "it is not valid text"
    run = 1
    for before, letter in pairwise(text):
        run = run + 1 if letter == before else 1
        if run > LONGEST_RUN:
            return f"it repeats {letter!r}"
    return ""


def _bad_answer(name: str, client: ChatClient, reply: ChatReply, why: str) -> Finding:
    return broken(name, f"{client.base_url} answers {_text(reply)[:80]!r}: {why}", _SERVER)


_SERVER = "Check the model server: the right weights and dtype, the model's own chat template, and its log."
