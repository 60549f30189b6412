"""Questions held to a JSON schema where the endpoint can, in plain words where it cannot."""

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
from services.parity.mining.pairs import Draft, Judged
from shared.client import ChatClient
from shared.contracts import AnnotatorSpec, Verdict
from shared.images import to_data_url
from shared.vqa.tasks import TaskProfile, load_profiles
from tests.quick_server import ServerThread
from tests.scripted_models import Body, ScriptedModel, text_of
from tests.services.parity.conftest import png

QUICK = RetryPolicy(first=0.01, longest=0.02, settled=0.1, settled_in_words=0.05)
CHART = load_profiles()["chartqa"]
PLAIN = replace(CHART, json_schema=None)


def answers(body: Body) -> list[str]:
    """A capable model: JSON where it is held to a schema, what the prompt's layout says where it is not."""
    n = body.get("n", 1)
    form = body.get("response_format")
    if form is None:
        pair = "Answer: <its answer>" in text_of(body)
        return [f"Question: what is {i}?\nAnswer: {i}" if pair else f"what is {i}?" for i in range(n)]
    keys = form["json_schema"]["schema"]["required"]
    whole = {"question": "what is {}?", "answer": "{}"}
    return [json.dumps({key: whole[key].format(i) for key in keys}) for i in range(n)]


@dataclass
class Bench:
    model: ScriptedModel
    upstream: Endpoint

    def annotator(self, **spec: Any) -> Annotator:
        return Annotator(self.upstream, AnnotatorSpec.model_validate({"questions_per_image": 2, **spec}), seed=1)

    @property
    def forms(self) -> list[str | None]:
        """The schema's name of each request."""
        bodies = self.model.requests
        return [b["response_format"]["json_schema"]["name"] if "response_format" in b else None for b in bodies]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    model = ScriptedModel(answers)
    server = ServerThread(model.app())
    async with ChatClient(server.url, model="m", timeout=10) as client:
        yield Bench(model, Endpoint("teacher", client, Limiter("teacher", 8), asyncio.Event(), QUICK))
    server.stop()


def picture(number: int = 1) -> Picture:
    return Picture(str(number), to_data_url(png(number)))


def pairs(drafts: list[Draft | Judged]) -> list[tuple[str, str | None]]:
    return [(draft.question, draft.answer) for draft in drafts if isinstance(draft, Draft)]


def judged(drafts: list[Draft | Judged]) -> list[Judged]:
    """The drafts, all of which must have ended."""
    ended = [draft for draft in drafts if isinstance(draft, Judged)]
    assert ended and len(ended) == len(drafts)
    return ended


TWO = [("what is 0?", None), ("what is 1?", None)]
TWO_ANSWERED = [("what is 0?", "0"), ("what is 1?", "1")]


async def test_a_question_alone_is_held_to_its_part_of_the_schema(bench: Bench) -> None:
    assert pairs(await bench.annotator().propose(picture(), CHART)) == TWO
    (body,) = bench.model.requests
    form = body["response_format"]["json_schema"]
    assert form["strict"] is True
    assert form["schema"]["required"] == list(form["schema"]["properties"]) == ["question"]
    assert '{"question": "<your question>"}' in text_of(body)
    assert body["max_tokens"] > CHART.max_question_tokens


async def test_one_shot_pairs_are_held_to_the_whole_schema(bench: Bench) -> None:
    assert pairs(await bench.annotator(mode="one_shot").propose(picture(), CHART)) == TWO_ANSWERED
    (body,) = bench.model.requests
    assert body["response_format"]["json_schema"]["schema"] == CHART.json_schema
    assert '"answer": "<its answer>"' in text_of(body)


@pytest.mark.parametrize("mode", ["two_step", "one_shot"])
async def test_an_endpoint_that_refuses_forms_is_asked_in_plain_words_from_then_on(bench: Bench, mode: str) -> None:
    refusal = "response_format: the transformers engine cannot enforce a format."
    bench.model.refusal = lambda body: refusal if "response_format" in body else None
    annotator = bench.annotator(mode=mode)
    expected = TWO if mode == "two_step" else TWO_ANSWERED
    assert pairs(await annotator.propose(picture(1), CHART)) == expected
    assert pairs(await annotator.propose(picture(2), CHART)) == expected
    assert bench.forms == ["question" if mode == "two_step" else "question_and_answer", None, None]


async def test_an_endpoint_that_breaks_on_forms_is_asked_in_plain_words_too(bench: Bench) -> None:
    bench.model.failure = lambda body: 500 if "response_format" in body else None
    assert pairs(await bench.annotator().propose(picture(), CHART)) == TWO
    asked = len(bench.forms)
    assert pairs(await bench.annotator().propose(picture(), CHART)) == TWO
    assert bench.forms[0] == "question" and bench.forms[asked:] == [None]


async def test_a_bad_minute_says_nothing_about_forms(bench: Bench) -> None:
    bench.model.failures = [(500, {}), (400, {}), (503, {}), (404, {}), (401, {})] * 6
    annotator = bench.annotator()
    assert pairs(await annotator.propose(picture(1), CHART)) == TWO
    assert pairs(await annotator.propose(picture(2), CHART)) == TWO
    assert bench.forms[-2:] == ["question", "question"]


async def test_an_endpoint_that_ignores_forms_is_read_all_the_same(bench: Bench) -> None:
    bench.model.script = lambda body: answers({k: v for k, v in body.items() if k != "response_format"})
    assert pairs(await bench.annotator().propose(picture(), CHART)) == TWO


async def test_an_image_that_is_refused_says_nothing_about_forms(bench: Bench) -> None:
    first_picture, bad = picture(1), picture(2)
    bench.model.refusal = lambda body: "bad image" if bad.url in json.dumps(body) else None
    annotator = bench.annotator()
    for wanted in (bad, first_picture, bad, first_picture):
        drafts = await annotator.propose(wanted, CHART)
        if wanted is bad:
            assert {d.verdict for d in judged(drafts)} == {Verdict.REFUSED} and "bad image" in judged(drafts)[0].reason
        else:
            assert pairs(drafts) == TWO
    asked = [
        form for form, body in zip(bench.forms, bench.model.requests, strict=True) if bad.url not in json.dumps(body)
    ]
    assert asked[-2:] == ["question", "question"]


@pytest.mark.parametrize(("profile", "spec"), [(PLAIN, {}), (CHART, {"structured": "off"})])
async def test_no_form_where_the_profile_or_the_job_wants_none(
    bench: Bench, profile: TaskProfile, spec: dict[str, Any]
) -> None:
    assert pairs(await bench.annotator(**spec).propose(picture(), profile)) == TWO
    assert bench.forms == [None]


async def test_json_that_is_cut_off_is_unparsable_and_says_so(bench: Bench) -> None:
    bench.model.script = lambda body: ['{"question": "what is the val'] * body.get("n", 1)
    drafts = judged(await bench.annotator().propose(picture(), CHART))
    assert {draft.verdict for draft in drafts} == {Verdict.UNPARSABLE}
    assert "what is the val" in drafts[0].reason


async def test_refused_forms_cost_no_tokens(bench: Bench) -> None:
    bench.model.refusal = lambda body: "no json_schema" if "response_format" in body else None
    drafts = await bench.annotator().propose(picture(), CHART)
    assert sum(draft.spent.prompt for draft in drafts) == 10


def test_all_built_in_tasks_have_a_schema_and_words_for_it() -> None:
    for profile in load_profiles().values():
        assert profile.response_format(pair=True) is not None
        for prompt in (profile.ask_prompt(as_json=True), profile.ask_and_answer_prompt(as_json=True)):
            assert '{"question": ' in prompt and "line" not in prompt
        for prompt in (profile.ask_prompt(), profile.ask_and_answer_prompt()):
            assert "JSON" not in prompt
