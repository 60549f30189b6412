"""Asks a checkpoint, or the teacher over HTTP, a list of questions, for greedy answers in the same order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.trainer.data.dataset import Sample
from services.trainer.data.images import CheckedImages
from shared.backoff import Backoff
from shared.client import ChatClient, image_question
from shared.concurrency import run_all
from shared.errors import InvalidInput, MPAError, Unavailable, UpstreamError
from shared.images import to_data_url
from shared.vlm.generation import generate
from shared.vlm.loading import LoadedModel
from shared.vlm.prompting import Prompt, question_prompt
from shared.vlm.sampling import Sampling
from shared.vqa.reading.replies import Reply, first_reply, read_reply
from shared.vqa.tasks import TaskProfile

logger = logging.getLogger(__name__)

_TRIES = 3
_BACKOFF = Backoff(1.0, 60.0)


@dataclass(frozen=True)
class Question:
    """``text`` about ``image``, whose file must have ``image_sha256`` where that is known.

    ``expected``: the answer that the model's is compared with, which sets how long it may be; "" for the task's limit.
    """

    image: str
    task: str
    text: str
    image_sha256: str | None = None
    expected: str = ""


def question_of(sample: Sample) -> Question:
    return Question(sample.image, sample.task, sample.question, sample.image_sha256, sample.answer)


class Asker:
    """Questions of any tasks, each asked with its task's prompt and answer limit."""

    def __init__(self, images: CheckedImages, profiles: Mapping[str, TaskProfile], reasoning_tokens: int = 0) -> None:
        """``reasoning_tokens``: what a student may think in, on top of a task's limit."""
        self.images, self.profiles, self.reasoning_tokens = images, profiles, reasoning_tokens

    def prompt(self, question: Question) -> str:
        """The user's turn, as it is sent to every server."""
        return self.profile(question.task).answer_prompt(question.text)

    def profile(self, task: str) -> TaskProfile:
        if task not in self.profiles:
            raise InvalidInput(
                f"The task {task!r} is not known here: give the trainer the same MPA_TASKS_FILE as the other services."
            )
        return self.profiles[task]

    def student_prompt(self, loaded: LoadedModel, question: Question) -> Prompt:
        """What the student service makes of the question; raises InvalidInput for a bad image."""
        image = self.images.open(question.image, question.image_sha256)
        return question_prompt(loaded, image, self.prompt(question))

    def student_answers(self, loaded: LoadedModel, questions: Sequence[Question], batch_size: int) -> list[str | None]:
        """Cleaned greedy answers of a loaded checkpoint, in the order of ``questions``.

        An answer that is cut off counts as far as it goes. A checkpoint that is still thinking gets one try with a
        raised limit; None: its reasoning does not end then.
        """
        replies = self._student_replies(loaded, questions, batch_size)
        thinking = [n for n, one in enumerate(replies) if one.visibly_thinking]
        patient = [n for n in thinking if self.profile(questions[n].task).raise_limit_by > 1]
        again = self._student_replies(loaded, [questions[n] for n in patient], batch_size, raised=True)
        for n, reply in zip(patient, again, strict=True):
            replies[n] = reply
        unfinished = sum(replies[n].visibly_thinking for n in thinking)
        if unfinished:
            logger.warning(
                "the checkpoint was still thinking when its tokens were used up, on %d of %d questions, which count as "
                "wrong: raise MPA_STUDENT_REASONING_TOKENS, or switch its reasoning off",
                unfinished,
                len(questions),
            )
        return [self._cleaned(q, r) for q, r in zip(questions, replies, strict=True)]

    def _cleaned(self, question: Question, reply: Reply) -> str | None:
        return None if reply.visibly_thinking else self.profile(question.task).clean_answer(reply.text)

    def _student_replies(
        self, loaded: LoadedModel, questions: Sequence[Question], batch_size: int, *, raised: bool = False
    ) -> list[Reply]:
        replies: list[Reply] = []
        for start in range(0, len(questions), batch_size):
            batch = questions[start : start + batch_size]
            prompts = [self.student_prompt(loaded, question) for question in batch]
            made = generate(loaded, prompts, [self._sampling(question, raised) for question in batch])
            replies += [read_reply(answer.text, answer.finish_reason) for answer in made]
        return replies

    def _sampling(self, question: Question, raised: bool) -> Sampling:
        profile = self.profile(question.task)
        limit = profile.answer_limit(question.expected) + self.reasoning_tokens
        return Sampling(max_tokens=limit * (profile.raise_limit_by if raised else 1))

    async def teacher_answers(
        self, teacher: ChatClient, questions: Sequence[Question], calls: int, reasoning_tokens: int = 0
    ) -> list[str] | None:
        """The teacher's cleaned greedy answers, with at most ``calls`` at once; None if a call fails.

        ``reasoning_tokens``: what it may think in, on top of a task's limit.
        """
        gate = asyncio.Semaphore(calls)
        try:
            return list(
                await run_all(*(self._ask(teacher, question, gate, reasoning_tokens) for question in questions))
            )
        except MPAError as error:
            logger.warning("the teacher's accuracy is left out: %s", error.detail)
            return None

    async def _ask(self, teacher: ChatClient, question: Question, gate: asyncio.Semaphore, reasoning: int) -> str:
        profile = self.profile(question.task)
        async with gate:
            data = await asyncio.to_thread(self.images.read, question.image, question.image_sha256)
            request = image_question(
                teacher.model,
                to_data_url(data),
                profile.answer_prompt(question.text),
                temperature=0.0,
                max_tokens=profile.max_answer_tokens + reasoning,
            )
            for attempt in range(_TRIES):
                try:
                    reply = await teacher.chat(request)
                    return profile.clean_answer(first_reply(reply.response).text)
                except (Unavailable, UpstreamError) as error:
                    if attempt == _TRIES - 1:
                        raise
                    await asyncio.sleep(error.retry_after or _BACKOFF.delay(attempt + 1))
        raise AssertionError("unreachable")
