"""Before and after: agreement with the teacher on held-out images, and accuracy where a labelled benchmark is given."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from PIL import Image

from services.trainer.data.dataset import Sample
from services.trainer.evaluation.answering import Asker, Question, question_of
from services.trainer.evaluation.benchmark import Labelled
from services.trainer.run_config import EvaluationResult
from shared.checkpoints import SMOKE_TOKENS
from shared.concurrency import run_all
from shared.contracts import Evaluation, IdentifierSpec, SmokeAnswer, TaskScore
from shared.vlm.generation import generate
from shared.vlm.loading import LoadedModel
from shared.vlm.sampling import Sampling
from shared.vqa.answers import match
from shared.vqa.intervals import gain_interval
from shared.vqa.metrics import metric_for

Load = Callable[[], LoadedModel]
AskTeacher = Callable[[Sequence[Question]], Coroutine[Any, Any, list[str] | None]]


class Scores:
    """Values of one measurement by task; each list grows by one for each question."""

    def __init__(self) -> None:
        self.by_task: dict[str, list[float]] = {}

    def add(self, task: str, value: float) -> None:
        self.by_task.setdefault(task, []).append(value)

    def values(self, task: str | None = None) -> list[float]:
        """Of one task, or of all, task by task."""
        return [value for name, values in self.by_task.items() if task in (None, name) for value in values]

    def mean(self, task: str | None = None) -> float | None:
        """Over the questions of one task, or over all; None where there are none."""
        chosen = self.values(task)
        return sum(chosen) / len(chosen) if chosen else None

    def count(self, task: str | None = None) -> int:
        return sum(len(values) for t, values in self.by_task.items() if task in (None, t))


async def evaluate(
    asker: Asker,
    load_base: Load,
    load_candidate: Load,
    held_out: Sequence[Sample],
    benchmark: Sequence[Labelled],
    match_mode: IdentifierSpec,
    *,
    batch_size: int,
    ask_teacher: AskTeacher,
    new: Sequence[Sample] = (),
) -> EvaluationResult:
    """Scores of both checkpoints (loaded one after the other) and the candidate's smoke answer.

    ``new``: held-out pairs of a later round, which are scored apart. The teacher answers the benchmark at the same
    time, since it has its own processor. It is asked nothing more once a checkpoint has failed.
    """
    questions = [question_of(sample) for sample in (*held_out, *new)]
    labelled = [Question(item.image, item.task, item.question) for item in benchmark]

    def ask_students() -> tuple[list[list[str | None]], SmokeAnswer | None]:
        answers, smoke = [], None
        for load in (load_base, load_candidate):
            loaded = load()
            answers.append(asker.student_answers(loaded, [*questions, *labelled], batch_size))
            if load is load_candidate and questions:
                smoke = _smoke(asker, loaded, questions[0])
            del loaded
        return answers, smoke

    if labelled:
        (answers, smoke), of_teacher = await run_all(asyncio.to_thread(ask_students), ask_teacher(labelled))
    else:
        (answers, smoke), of_teacher = await asyncio.to_thread(ask_students), None
    agreement = [_agreement(asker, held_out, given[: len(held_out)], match_mode) for given in answers]
    accuracy = [_accuracy(asker, benchmark, given[len(questions) :]) for given in answers]
    teacher = _accuracy(asker, benchmark, of_teacher) if of_teacher is not None else Scores()
    tasks = sorted({sample.task for sample in held_out} | {item.task for item in benchmark})
    scores = {task: _score(agreement, accuracy, teacher, task) for task in tasks}
    return EvaluationResult(
        Evaluation(
            overall=_score(agreement, accuracy, teacher, None),
            tasks=scores,
            unfinished_before=answers[0].count(None),
            unfinished_after=answers[1].count(None),
        ),
        smoke,
        _on_new(asker, new, [given[len(held_out) : len(questions)] for given in answers], match_mode) if new else None,
    )


def _on_new(
    asker: Asker, new: Sequence[Sample], answers: Sequence[Sequence[str | None]], how: IdentifierSpec
) -> Evaluation:
    agreement, nothing = [_agreement(asker, new, given, how) for given in answers], Scores()
    scores = {t: _score(agreement, [nothing, nothing], nothing, t) for t in sorted({s.task for s in new})}
    return Evaluation(overall=_score(agreement, [nothing, nothing], nothing, None), tasks=scores)


def _agreement(asker: Asker, held_out: Sequence[Sample], given: Sequence[str | None], how: IdentifierSpec) -> Scores:
    scores = Scores()
    for sample, answer in zip(held_out, given, strict=True):
        rule = asker.profile(sample.task).rule
        agrees = match(answer or "", sample.answer, mode=how.match, rule=rule, question=sample.question)
        scores.add(sample.task, float(agrees))
    return scores


def _accuracy(asker: Asker, benchmark: Sequence[Labelled], given: Sequence[str | None]) -> Scores:
    scores = Scores()
    for item, answer in zip(benchmark, given, strict=True):
        scores.add(item.task, metric_for(asker.profile(item.task).metric)(answer or "", list(item.answers)))
    return scores


def _score(agreement: Sequence[Scores], accuracy: Sequence[Scores], teacher: Scores, task: str | None) -> TaskScore:
    return TaskScore(
        questions=agreement[0].count(task),
        agreement_before=agreement[0].mean(task),
        agreement_after=agreement[1].mean(task),
        gain_interval=_interval(agreement[0].values(task), agreement[1].values(task)),
        benchmark_questions=accuracy[0].count(task),
        accuracy_before=accuracy[0].mean(task),
        accuracy_after=accuracy[1].mean(task),
        accuracy_teacher=teacher.mean(task),
    )


def _interval(before: Sequence[float], after: Sequence[float]) -> tuple[float, float] | None:
    """Of the gain in agreement, from what each question said before and after; None without questions."""
    if not before:
        return None
    pairs = list(zip(before, after, strict=True))
    gained, lost = sum(b < a for b, a in pairs), sum(b > a for b, a in pairs)
    return gain_interval(gained, lost, len(pairs))


def _smoke(asker: Asker, loaded: LoadedModel, question: Question) -> SmokeAnswer:
    """The raw answer to the first held-out question, asked as the student service will be asked."""
    image = asker.images.open(question.image, question.image_sha256)
    (made,) = generate(loaded, [asker.student_prompt(loaded, question)], [Sampling(max_tokens=SMOKE_TOKENS)])
    return SmokeAnswer(question=asker.prompt(question), answer=made.text, image_png_base64=_png(image))


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
