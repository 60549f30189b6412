"""What the gate and the benchmark read of an answer that reasons, or that was cut off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from services.trainer.data.dataset import read_held_out
from services.trainer.data.images import CheckedImages
from services.trainer.evaluation.answering import Asker, Question, question_of
from shared.client import ChatClient
from shared.images import ImageLimits
from shared.images.files import ImageFiles
from shared.store import Store
from shared.vlm.loading import load_model
from shared.vlm.prompting import Prompt
from shared.vlm.rows import Generated
from shared.vlm.sampling import Sampling
from shared.vqa.tasks import load_profiles
from tests.quick_server import ServerThread
from tests.scripted_models import ScriptedModel, Text
from tests.services.trainer.small_set import TASKS_FILE

LONG = 200


@pytest.fixture
def asker(small_set: Store) -> Asker:
    files = ImageFiles(small_set, roots=None, max_bytes=1 << 20, allow_urls=False)
    return Asker(CheckedImages(files, ImageLimits()), load_profiles(TASKS_FILE))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>hm</think>red", "red"),
        ({"content": "<think>Okay", "finish_reason": "length"}, ""),
        ({"content": None, "reasoning_content": "Okay", "finish_reason": "length"}, ""),
        ({"content": "red and", "finish_reason": "length"}, "red and"),
    ],
)
async def test_a_teachers_reasoning_is_not_its_answer(asker: Asker, small_set: Store, text: Text, answer: str) -> None:
    model = ScriptedModel(lambda body: [text])
    server = ServerThread(model.app())
    question = question_of(read_held_out(small_set, "j1")[0])
    async with ChatClient(server.url, model="teacher", timeout=10.0) as teacher:
        assert await asker.teacher_answers(teacher, [question], 2, reasoning_tokens=500) == [answer]
    server.stop()
    assert model.requests[0]["max_tokens"] == asker.profile(question.task).max_answer_tokens + 500


def test_a_checkpoint_that_is_still_thinking_gets_one_try_with_more_room(
    asker: Asker,
    small_set: Store,
    tiny_student: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits: list[list[int]] = []

    def thinking(loaded: object, prompts: Sequence[Prompt], samplings: Sequence[Sampling]) -> list[Generated]:
        limits.append([one.max_tokens for one in samplings])
        return [
            _made("<think>hm</think>red", "stop") if n > 4 * LONG else _made("<think>hm", "length") for n in limits[-1]
        ]

    monkeypatch.setattr("services.trainer.evaluation.answering.generate", thinking)
    first, second = (question_of(sample) for sample in read_held_out(small_set, "j1")[:2])
    own = asker.profile(first.task).answer_limit(first.expected)
    asker.reasoning_tokens = LONG
    loaded = load_model(tiny_student)
    assert asker.student_answers(loaded, [first, second], 2) == ["red", "red"]
    assert limits == [[LONG + own] * 2, [4 * (LONG + own)] * 2] and not caplog.records
    asker.reasoning_tokens = 0
    assert asker.student_answers(loaded, [first, second], 2) == [None, None]
    assert "still thinking" in caplog.text and "on 2 of 2 questions" in caplog.text


def _made(text: str, finish_reason: str) -> Generated:
    return Generated(text, (), finish_reason, 1, 1)


def test_a_checkpoint_has_room_for_the_answer_that_is_expected(
    asker: Asker, small_set: Store, tiny_student: Path
) -> None:
    first = question_of(read_held_out(small_set, "j1")[0])
    limit = asker.profile(first.task).max_answer_tokens
    assert first.expected and asker.profile(first.task).answer_limit("x" * limit) == 4 * limit
    assert asker.profile(first.task).answer_limit("x" * (limit - 1)) == limit
    long = Question(first.image, first.task, first.text, first.image_sha256, "x" * 200)
    short, longer = asker.student_answers(load_model(tiny_student), [first, long], 2)
    assert longer.startswith(short[:4])
