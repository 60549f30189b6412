"""Held-out agreement and benchmark accuracy of real tiny checkpoints, and of a teacher over HTTP."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from services.trainer.data.dataset import read_held_out
from services.trainer.data.images import CheckedImages
from services.trainer.evaluation.answering import Asker, Question
from services.trainer.evaluation.benchmark import Labelled
from services.trainer.evaluation.evaluate import evaluate
from shared.checkpoints import SMOKE_TOKENS
from shared.client import ChatClient
from shared.contracts import IdentifierSpec
from shared.errors import InvalidInput
from shared.images import ImageLimits
from shared.images.files import ImageFiles
from shared.store import Store
from shared.vlm.generation import generate
from shared.vlm.loading import LoadedModel, load_model
from shared.vlm.prompting import question_prompt
from shared.vlm.sampling import Sampling
from shared.vqa.tasks import load_profiles
from tests.services.trainer.small_set import QUESTION, TASKS_FILE


@pytest.fixture
def asker(small_set: Store) -> Asker:
    files = ImageFiles(small_set, roots=None, max_bytes=1 << 20, allow_urls=False)
    return Asker(CheckedImages(files, ImageLimits()), load_profiles(TASKS_FILE))


def right_answers(questions: Sequence[Question]) -> list[str]:
    return [Path(q.image).stem.split("-")[1] for q in questions]


async def know_everything(questions: Sequence[Question]) -> list[str]:
    return right_answers(questions)


async def test_scores_follow_from_the_answers(
    asker: Asker, small_set: Store, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = read_held_out(small_set, "j1")
    labelled = [Labelled(s.image, "text", s.question, (s.answer,)) for s in held_out[:2]]
    rounds = iter([["red"] * 6, right_answers([Question(s.image, s.task, QUESTION) for s in held_out]) + ["wrong"] * 2])
    monkeypatch.setattr(Asker, "student_answers", lambda *_: next(rounds))

    def load() -> LoadedModel:
        return load_model(tiny_student)

    result = await evaluate(
        asker,
        load,
        lambda: load(),
        held_out,
        labelled,
        IdentifierSpec(),
        batch_size=2,
        ask_teacher=know_everything,
    )
    overall = result.evaluation.overall
    colours = right_answers([Question(s.image, s.task, QUESTION) for s in held_out])
    assert overall.questions == 4
    assert overall.agreement_before == colours.count("red") / 4
    assert overall.agreement_after == 1.0
    assert overall.accuracy_before == colours[:2].count("red") / 2
    assert (overall.accuracy_after, overall.accuracy_teacher) == (0.0, 1.0)
    assert result.evaluation.tasks["chart"].benchmark_questions == 0
    assert result.evaluation.tasks["text"].questions == 0
    assert result.evaluation.tasks["text"].agreement_before is None


async def test_answers_agree_whatever_their_spelling(
    asker: Asker, small_set: Store, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = read_held_out(small_set, "j1")
    rounds = iter([[f"The {s.answer.upper()}." for s in held_out], [f"not {s.answer}" for s in held_out]])
    monkeypatch.setattr(Asker, "student_answers", lambda *_: next(rounds))

    async def agreement(how: IdentifierSpec) -> tuple[float | None, float | None]:
        result = await evaluate(
            asker,
            lambda: load_model(tiny_student),
            lambda: load_model(tiny_student),
            held_out,
            [],
            how,
            batch_size=2,
            ask_teacher=know_everything,
        )
        return result.evaluation.overall.agreement_before, result.evaluation.overall.agreement_after

    assert await agreement(IdentifierSpec()) == (1.0, 0.0)
    rounds = iter([[f"The {s.answer.upper()}." for s in held_out], [f"not {s.answer}" for s in held_out]])
    assert await agreement(IdentifierSpec(match="paper")) == (1.0, 1.0)


async def test_the_smoke_answer_is_what_the_checkpoint_says_again(
    asker: Asker, small_set: Store, tiny_student: Path
) -> None:
    held_out = read_held_out(small_set, "j1")
    result = await evaluate(
        asker,
        lambda: load_model(tiny_student),
        lambda: load_model(tiny_student),
        held_out,
        [],
        IdentifierSpec(),
        batch_size=3,
        ask_teacher=know_everything,
    )
    assert result.smoke is not None
    picture = Image.open(io.BytesIO(base64.b64decode(result.smoke.image_png_base64))).convert("RGB")
    loaded = load_model(tiny_student)
    prompt = question_prompt(loaded, picture, result.smoke.question)
    (again,) = generate(loaded, [prompt], [Sampling(max_tokens=SMOKE_TOKENS)])
    assert again.text == result.smoke.answer
    overall = result.evaluation.overall
    assert overall.agreement_before == overall.agreement_after


def test_batches_do_not_change_answers(asker: Asker, small_set: Store, tiny_student: Path) -> None:
    questions = [Question(s.image, s.task, s.question) for s in read_held_out(small_set, "j1")]
    loaded = load_model(tiny_student)
    assert asker.student_answers(loaded, questions, 1) == asker.student_answers(loaded, questions, 4)


async def test_the_teacher_is_asked_no_more_once_a_checkpoint_failed(asker: Asker, small_set: Store) -> None:
    held_out = read_held_out(small_set, "j1")
    stopped = asyncio.Event()

    def broken() -> LoadedModel:
        raise InvalidInput("This checkpoint cannot be loaded.")

    async def take_long(_: Sequence[Question]) -> list[str]:
        try:
            return await asyncio.Event().wait() and []
        finally:
            stopped.set()

    labelled = [Labelled(held_out[0].image, "text", QUESTION, ("red",))]
    with pytest.raises(InvalidInput, match="cannot be loaded"):
        async with asyncio.timeout(20):
            await evaluate(asker, broken, broken, [], labelled, IdentifierSpec(), batch_size=2, ask_teacher=take_long)
    assert stopped.is_set()


async def test_a_teacher_that_cannot_be_asked_leaves_only_its_number_out(
    asker: Asker, small_set: Store, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.trainer.evaluation.answering._TRIES", 1)
    questions = [Question(s.image, s.task, s.question) for s in read_held_out(small_set, "j1")]
    async with ChatClient(f"http://127.0.0.1:{free_port}", model="teacher", timeout=2.0) as teacher:
        assert await asker.teacher_answers(teacher, questions, 2) is None


async def test_no_question_goes_on_after_another_failed(asker: Asker, small_set: Store) -> None:
    """Each of them would cost money, for a number that is left out."""
    (sample, *_) = read_held_out(small_set, "j1")
    asked = [Question(sample.image, sample.task, sample.question), Question("gone.png", sample.task, sample.question)]
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with silent, ChatClient(url, model="teacher", timeout=60.0) as teacher:
        assert await asker.teacher_answers(teacher, asked, 2) is None
        left = [task for task in asyncio.all_tasks() if "_ask" in repr(task.get_coro())]
        assert left == []


def test_an_unknown_task_is_named(asker: Asker) -> None:
    with pytest.raises(InvalidInput, match="'novel' is not known"):
        asker.prompt(Question("x.png", "novel", "q"))
