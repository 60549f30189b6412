"""Texts that were cut off, or whose reasoning did not end, are no labels, and get one try with a raised limit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from services.parity.endpoints.endpoint import Endpoint
from services.parity.endpoints.evidence import RetryPolicy
from services.parity.endpoints.limiter import Limiter
from services.parity.images.picture import Picture
from services.parity.mining.annotator import Annotator
from services.parity.mining.hearing import hear, mean_logprob
from services.parity.mining.identifier import Identifier
from services.parity.mining.pairs import Answered, Draft, Judged
from shared.client import ChatClient, image_question
from shared.contracts import AnnotatorSpec, Cause, Choice, IdentifierSpec, Verdict
from shared.images import to_data_url
from shared.vqa.tasks import load_profiles
from tests.quick_server import ServerThread
from tests.scripted_models import Body, ScriptedModel, Text
from tests.services.parity.conftest import png

TEXT = replace(load_profiles()["textvqa"], json_schema=None)
NO_RAISE = replace(TEXT, raise_limit_by=1)
PICTURE = Picture("1", to_data_url(png(1)))
CUT: Body = {"content": "No parking between 8 am and", "finish_reason": "length"}
THINKING: Body = {"content": "<think>\nOkay, the user wants", "finish_reason": "length"}
APART: Body = {"content": None, "reasoning_content": "Okay, the user", "finish_reason": "length"}
APART_NEWER: Body = {"content": None, "reasoning": "Okay, the user", "finish_reason": "length"}


@dataclass
class Bench:
    model: ScriptedModel
    client: ChatClient

    def endpoint(self, reasoning_tokens: int = 0) -> Endpoint:
        policy = RetryPolicy(first=0.01, longest=0.02, settled=0.1, settled_in_words=0.05)
        return Endpoint("m", self.client, Limiter("m", 8), asyncio.Event(), policy, reasoning_tokens)

    @property
    def limits(self) -> list[int]:
        return [body["max_tokens"] for body in self.model.requests]

    def says(self, *texts: Text, longer: Text | None = None) -> None:
        """``longer``: what it says with a raised limit."""
        first: list[int] = []

        def script(body: Body) -> list[Text]:
            first.append(body["max_tokens"])
            raised = longer is not None and body["max_tokens"] > first[0]
            said = [longer] if raised and longer is not None else list(texts)
            return (said * body.get("n", 1))[: body.get("n", 1)]

        self.model.script = script


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    model = ScriptedModel(lambda body: ["red"])
    server = ServerThread(model.app())
    async with ChatClient(server.url, model="m", timeout=10) as client:
        yield Bench(model, client)
    server.stop()


async def answer(bench: Bench, profile: Any = TEXT, reasoning_tokens: int = 0) -> Answered | Judged:
    annotator = Annotator(bench.endpoint(reasoning_tokens), AnnotatorSpec(), seed=1)
    return await annotator.answer(Draft(0, "What does the sign say?"), PICTURE, profile)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CUT, "was cut off after 96 tokens: 'No parking between 8 am and'"),
        (THINKING, "still thinking after 96 tokens"),
        (APART, "still thinking after 96 tokens"),
        (APART_NEWER, "still thinking after 96 tokens"),
        ("<think>It is a red", "still thinking"),
        ("<think>hm</think>", "nothing follows the model's reasoning"),
        ("x" * 600, "too long for an answer, 600 characters"),
    ],
)
async def test_an_answer_that_is_not_whole_is_no_label(bench: Bench, text: Text, words: str) -> None:
    bench.says(text)
    judged = await answer(bench)
    assert isinstance(judged, Judged) and judged.verdict is Verdict.UNPARSABLE
    assert words in judged.reason and judged.answer is None
    assert judged.spent.prompt == 10 * len(bench.limits)


async def test_the_limit_is_raised_once_and_only_if_the_profile_allows_it(bench: Bench) -> None:
    bench.says(CUT, longer="No parking between 8 am and 6 pm")
    answered = await answer(bench)
    assert isinstance(answered, Answered) and answered.answer == "No parking between 8 am and 6 pm"
    assert bench.limits == [24, 96] and answered.spent.prompt == 20
    bench.model.requests.clear()
    judged = await answer(bench, NO_RAISE)
    assert isinstance(judged, Judged) and "after 24 tokens" in judged.reason and bench.limits == [24]


async def test_a_limit_that_does_not_fit_the_model_leaves_the_first_text(bench: Bench) -> None:
    bench.says(CUT)
    bench.model.refusal = lambda body: "maximum context length" if body["max_tokens"] > 24 else None
    judged = await answer(bench)
    assert isinstance(judged, Judged) and judged.verdict is Verdict.UNPARSABLE and "after 24 tokens" in judged.reason


async def test_a_reasoning_teacher_has_tokens_of_its_own(bench: Bench) -> None:
    bench.says("<think>hm</think>\nred")
    answered = await answer(bench, reasoning_tokens=1000)
    assert isinstance(answered, Answered) and answered.answer == "red" and bench.limits == [1024]


async def test_an_answer_that_the_server_withholds_is_refused(bench: Bench) -> None:
    bench.says({"content": None, "refusal": "I cannot help with that."})
    judged = await answer(bench)
    assert isinstance(judged, Judged) and judged.verdict is Verdict.REFUSED and "I cannot help" in judged.reason


@pytest.mark.parametrize("mode", ["two_step", "one_shot"])
async def test_questions_that_are_cut_off_are_not_asked(bench: Bench, mode: str) -> None:
    cut: Body = {"content": "Question: What does the sign say about", "finish_reason": "length"}
    annotator = Annotator(
        bench.endpoint(), AnnotatorSpec.model_validate({"mode": mode, "questions_per_image": 2}), seed=1
    )
    bench.says(cut, THINKING)
    judged = await annotator.propose(PICTURE, TEXT)
    assert [one.verdict for one in judged if isinstance(one, Judged)] == [Verdict.UNPARSABLE] * 2
    reasons = [one.reason for one in judged if isinstance(one, Judged)]
    assert "cut off" in reasons[0] and "still thinking" in reasons[1] and len(bench.limits) == 2


async def test_only_the_texts_that_were_cut_off_are_taken_from_the_second_try(bench: Bench) -> None:
    bench.says("What is this? It", CUT, longer="What is that?")
    request = image_question("m", PICTURE.url, "ask", n=2, max_tokens=10)
    heard = await hear(bench.endpoint(), request, 0.0, raise_by=2)
    assert [reply.text for reply in heard.replies] == ["What is this? It", "What is that?"]
    assert heard.limit == 20


VOTES = [CUT, THINKING, APART, "<think>hm"]


@pytest.mark.parametrize("vote", VOTES)
async def test_votes_that_are_not_whole_are_not_agreement(bench: Bench, vote: Text) -> None:
    student = ScriptedModel(lambda body: ["blue"])
    server = ServerThread(student.app())
    bench.says(vote)
    async with ChatClient(server.url, model="s", timeout=10) as client:
        endpoint = Endpoint("student", client, Limiter("student", 8), asyncio.Event())
        identifier = Identifier(bench.endpoint(), endpoint, IdentifierSpec(), seed=1)
        pair = Answered(0, "What does the sign say?", "No parking between 8 am and")
        judged = await identifier.judge(pair, PICTURE, TEXT)
        assert judged.verdict is Verdict.UNPARSABLE and judged.votes == ("", "", "")
        assert judged.reason.startswith("Every further answer of the teacher")
        bench.says("red", "red", vote)
        judged = await identifier.judge(replace(pair, answer="red"), PICTURE, TEXT)
        assert judged.verdict is Verdict.DISPARITY and judged.votes == ("red", "red", "")
    server.stop()


async def test_a_student_has_room_for_the_answer_and_keeps_what_it_said(bench: Bench) -> None:
    student = ScriptedModel(lambda body: [{"content": "It is a", "finish_reason": "length"}])
    server = ServerThread(student.app())
    async with ChatClient(server.url, model="s", timeout=10) as client:
        endpoint = Endpoint("student", client, Limiter("student", 8), asyncio.Event())
        identifier = Identifier(bench.endpoint(), endpoint, IdentifierSpec(), seed=1)
        bench.says("red")
        judged = await identifier.judge(Answered(0, "What colour is it?", "red"), PICTURE, TEXT)
        assert judged.verdict is Verdict.DISPARITY and judged.reason == "The student's answer was cut off."
        assert judged.student is not None and judged.student.text == "It is a"
        long = "no parking between 8 am and 6 pm"
        bench.says(long)
        await identifier.judge(Answered(0, "What does it say?", long), PICTURE, TEXT)
        student.refusal = lambda body: "at most 24" if body["max_tokens"] > 24 else None
        await identifier.judge(Answered(0, "What does it say?", long), PICTURE, TEXT)
        assert [body["max_tokens"] for body in student.requests] == [24, 96, 96, 24]
    server.stop()


THOUGHTS: list[Text] = [
    THINKING,
    APART,
    {"content": "[THINK]The bus is", "finish_reason": "length"},
    {"content": "<|channel|>analysis<|message|>The bus", "finish_reason": "length"},
    "<think>It is a red",
]


@pytest.mark.parametrize("verify", ["disagreements", "all"])
@pytest.mark.parametrize("thought", THOUGHTS)
async def test_a_student_that_is_still_thinking_is_not_wrong(bench: Bench, thought: Text, verify: str) -> None:
    """It gets more room once. What it would have said then is unknown, so the pair says nothing about it."""
    student = ScriptedModel(lambda body: [thought])
    server = ServerThread(student.app())
    async with ChatClient(server.url, model="s", timeout=10) as client:

        def asks(reasoning_tokens: int) -> Identifier:
            limiter, changed = Limiter("student", 8), asyncio.Event()
            endpoint = Endpoint("student", client, limiter, changed, reasoning_tokens=reasoning_tokens)
            return Identifier(bench.endpoint(), endpoint, IdentifierSpec.model_validate({"verify": verify}), seed=1)

        pair = Answered(0, "What colour is it?", "red")
        judged = await asks(0).judge(pair, PICTURE, TEXT)
        assert (judged.verdict, judged.cause) == (Verdict.UNPARSABLE, Cause.STUDENT_THINKING)
        assert judged.reason == "The student's answer did not begin: the model was still thinking after 96 tokens."
        assert judged.question == pair.question and judged.answer == "red"
        assert [body["max_tokens"] for body in student.requests] == [24, 96]
        student.requests.clear()
        judged = await asks(0).judge(pair, PICTURE, NO_RAISE)
        assert judged.cause is Cause.STUDENT_THINKING and [body["max_tokens"] for body in student.requests] == [24]
        student.requests.clear()
        student.script = lambda body: ["<think>hm</think>red" if body["max_tokens"] > 2000 else thought]
        judged = await asks(1000).judge(pair, PICTURE, TEXT)
        assert judged.verdict is Verdict.STUDENT_RIGHT and judged.student is not None and judged.student.text == "red"
        assert [body["max_tokens"] for body in student.requests] == [1024, 4096]
    server.stop()


@pytest.mark.parametrize(
    ("reply", "verdict", "cause"),
    [
        ({"content": None, "finish_reason": "content_filter"}, Verdict.REFUSED, Cause.WITHHELD),
        ({"content": "It is a", "finish_reason": "length"}, Verdict.DISPARITY, Cause.STUDENT_CUT_OFF),
        ("", Verdict.DISPARITY, None),
        ({"content": " ", "finish_reason": "length"}, Verdict.DISPARITY, Cause.STUDENT_CUT_OFF),
        ("blue", Verdict.DISPARITY, None),
    ],
)
async def test_only_what_a_student_said_is_compared(
    bench: Bench, reply: Text, verdict: Verdict, cause: Cause | None
) -> None:
    server = ServerThread(ScriptedModel(lambda body: [reply]).app())
    async with ChatClient(server.url, model="s", timeout=10) as client:
        endpoint = Endpoint("student", client, Limiter("student", 8), asyncio.Event())
        identifier = Identifier(bench.endpoint(), endpoint, IdentifierSpec(), seed=1)
        judged = await identifier.judge(Answered(0, "What colour is it?", "red"), PICTURE, TEXT)
        assert (judged.verdict, judged.cause) == (verdict, cause)
    server.stop()


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (CUT, Cause.ANSWER_CUT_OFF),
        (THINKING, Cause.TEACHER_THINKING),
        (APART, Cause.TEACHER_THINKING),
        ("<think>hm</think>", Cause.EMPTY),
        ("<answer></answer>", Cause.EMPTY),
        ("x" * 600, Cause.TOO_LONG),
        ({"content": None, "refusal": "I cannot help with that."}, Cause.WITHHELD),
        ("I cannot read the sign.", Cause.DECLINED),
    ],
)
async def test_an_answer_that_is_no_label_has_a_cause_that_can_be_counted(
    bench: Bench, text: Text, cause: Cause
) -> None:
    bench.says(text)
    judged = await answer(bench)
    assert isinstance(judged, Judged) and judged.cause is cause


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ({"content": "What does the sign say about", "finish_reason": "length"}, Cause.QUESTION_CUT_OFF),
        (THINKING, Cause.TEACHER_THINKING),
        ("A sign.", Cause.NO_QUESTION),
        ("", Cause.EMPTY),
    ],
)
async def test_a_question_that_is_none_has_a_cause_that_can_be_counted(bench: Bench, text: Text, cause: Cause) -> None:
    bench.says(text)
    (judged,) = await Annotator(bench.endpoint(), AnnotatorSpec(questions_per_image=1), seed=1).propose(PICTURE, TEXT)
    assert isinstance(judged, Judged) and judged.cause is cause


def test_the_confidence_of_a_reasoning_model_is_that_of_its_answer() -> None:
    words = {"<think>": -5.0, "hm": -5.0, "</think>": -5.0, "\n": -3.0, "light": -0.25, " red": -0.75, "<|end|>": -0.5}
    tokens = [{"token": token, "logprob": value} for token, value in words.items()]
    message = {"content": "<think>hm</think>\nlight red"}
    choice = Choice.model_validate({"message": message, "logprobs": {"content": tokens}})
    assert mean_logprob(choice) == pytest.approx(-0.5)
    apart = Choice.model_validate(
        {"message": {"content": "light red", "reasoning": "hm"}, "logprobs": {"content": tokens}}
    )
    assert mean_logprob(apart) == pytest.approx(-0.5)
    plain = json.loads(json.dumps({"message": {"content": "light red"}, "logprobs": {"content": tokens[4:6]}}))
    assert mean_logprob(Choice.model_validate(plain)) == pytest.approx(-0.5)
