"""OpenAI's chat format: samplings from a request, and answers as a response or as a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from shared.contracts import ChatMessage, ChatRequest
from shared.errors import InvalidInput, Unavailable
from shared.serving.answers import build_response, read_samplings, stream_events
from shared.serving.work import StreamPiece
from shared.sse import DONE, write_event
from shared.vlm.generation import Generated, Piece, Token, TopToken

TOKENS = (Token(1, "a", -0.5, (TopToken("a", -0.5), TopToken("no", -1.5))), Token(2, " dog", -0.25))
ANSWERS = [Generated("a dog", TOKENS, "stop", 10, 3), Generated("a", TOKENS[:1], "length", 10, 1)]


def request(**fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=[ChatMessage(role="user", content="what?")], **fields)


def samplings(**fields: Any) -> list[Any]:
    return read_samplings(request(**fields), default_tokens=7, plain_text_only="only plain text here")


def test_every_choice_has_a_sampling_with_a_seed_of_its_own() -> None:
    found = samplings(n=3, seed=5, temperature=0.5, stop="\n")
    assert [sampling.seed for sampling in found] == [5, 6, 7]
    assert {(s.temperature, s.stop, s.max_tokens) for s in found} == {(0.5, ("\n",), 7)}
    assert [sampling.seed for sampling in samplings(n=2)] == [None, None]
    assert samplings(max_tokens=3, max_completion_tokens=4)[0].max_tokens == 4


def test_what_cannot_be_sampled_is_refused() -> None:
    assert len(samplings(response_format={"type": "text"})) == 1
    with pytest.raises(InvalidInput, match="response_format: only plain text here"):
        samplings(response_format={"type": "json_object"})
    with pytest.raises(InvalidInput, match="top_logprobs needs logprobs"):
        samplings(top_logprobs=2)


def test_a_response_holds_all_choices_and_counts_the_prompt_once() -> None:
    response = build_response(request(n=2, logprobs=True), ANSWERS, "job-1")
    assert [(c.index, c.message.content, c.finish_reason) for c in response.choices] == [
        (0, "a dog", "stop"),
        (1, "a", "length"),
    ]
    assert response.system_fingerprint == "job-1"
    assert response.usage is not None
    assert (response.usage.prompt_tokens, response.usage.completion_tokens, response.usage.total_tokens) == (10, 4, 14)
    logprobs = response.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert [(token.token, token.logprob, len(token.top_logprobs)) for token in logprobs.content] == [
        ("a", -0.5, 2),
        (" dog", -0.25, 0),
    ]
    plain = build_response(request(), ANSWERS[:1])
    assert (plain.choices[0].logprobs, plain.system_fingerprint) == (None, None)


async def streamed(asked: ChatRequest, pieces: AsyncGenerator[StreamPiece]) -> list[str]:
    first = await anext(pieces)
    return [event async for event in stream_events(asked, first, pieces)]


def data_of(event: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(event.removeprefix("data: "))
    return found


async def test_a_stream_says_the_same_as_the_response() -> None:
    async def pieces() -> AsyncGenerator[StreamPiece]:
        yield StreamPiece("job-1", 0, piece=Piece("a", TOKENS[:1]))
        yield StreamPiece("job-1", 1, piece=Piece("a", TOKENS[:1]))
        yield StreamPiece("job-1", 0, piece=Piece(" dog", TOKENS[1:]))
        yield StreamPiece("job-1", 1, answer=ANSWERS[1])
        yield StreamPiece("job-1", 0, answer=ANSWERS[0])

    asked = request(n=2, stream=True, stream_options={"include_usage": True})
    *events, last = await streamed(asked, pieces())
    assert last == write_event(DONE)
    *chunks, usage = [data_of(event) for event in events]
    texts, ends = ["", ""], ["", ""]
    for chunk in chunks:
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
        ends[choice["index"]] = choice["finish_reason"]
    whole = build_response(asked, ANSWERS, "job-1")
    assert texts == [choice.message.content for choice in whole.choices]
    assert ends == [choice.finish_reason for choice in whole.choices]
    assert whole.usage is not None and usage["usage"] == whole.usage.model_dump()
    assert {chunk["system_fingerprint"] for chunk in chunks} == {"job-1"}
    assert len({chunk["id"] for chunk in [*chunks, usage]}) == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [(Unavailable("The engine is gone."), "The engine is gone."), (RuntimeError("a secret"), "The answer broke off")],
)
async def test_an_error_in_the_middle_is_the_last_event(error: Exception, words: str) -> None:
    async def pieces() -> AsyncGenerator[StreamPiece]:
        yield StreamPiece("", 0, piece=Piece("a", TOKENS[:1]))
        raise error

    events = await streamed(request(stream=True), pieces())
    assert data_of(events[-1])["error"]["message"].startswith(words)
    assert "secret" not in "".join(events)
