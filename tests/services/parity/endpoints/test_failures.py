"""What the status and the words of a failed call say."""

from __future__ import annotations

from typing import Any

import pytest

from services.parity.endpoints.failures import Failure, check_chat, check_maps, check_scores, read_failure, same_words
from shared.client import image_question
from shared.contracts import (
    AttentionItem,
    AttentionRequest,
    AttentionResponse,
    ChatResponse,
    ScoreItem,
    ScoreRequest,
    ScoreResponse,
)
from shared.errors import Unavailable, UpstreamError
from tests.scripted_models import completion

URL = "POST http://teacher:8000/v1/chat/completions"


def answered(status: int, words: str) -> UpstreamError:
    return UpstreamError(f"{URL} answered {status}: {words}", upstream_status=status)


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 1024 tokens. However, you requested 2048 tokens.",
        "Invalid image data: the picture cannot be decoded.",
        "Too many images: at most 1 image per prompt.",
        "The response was filtered due to the prompt triggering the content management policy.",
        "Failed to load base64 data.",
        "The input (4099 tokens) is longer than the model's context length.",
        "aspect ratio: too large",
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_speaks_of_the_input(status: int, words: str) -> None:
    assert read_failure(answered(status, words)) is Failure.REFUSAL


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "Bad Request"),
        (400, "upstream connect error or disconnect/reset before headers"),
        (400, "<html><head><title>400 image</title></head></html>"),
        (422, "Unprocessable Entity"),
        (500, "the image cannot be read"),
        (401, "invalid token"),
        (403, "the content policy forbids it"),
        (404, "The model `teacher` does not exist."),
        (408, "too many tokens"),
        (409, "conflict"),
        (200, "no valid ChatResponse"),
        (302, "too many tokens"),
    ],
)
def test_all_else_is_an_outage(status: int, words: str) -> None:
    assert read_failure(answered(status, words)) is Failure.OUTAGE


def test_the_address_that_was_asked_is_not_what_the_server_said() -> None:
    error = UpstreamError("POST http://image-prompt/v1/chat answered 400: oops", upstream_status=400)
    assert read_failure(error) is Failure.OUTAGE


@pytest.mark.parametrize("status", [413, 415])
def test_size_and_type_are_those_of_the_input(status: int) -> None:
    assert read_failure(answered(status, "<html>Request Entity Too Large</html>")) is Failure.REFUSAL


def test_too_much_at_once_is_no_failure_of_the_request() -> None:
    assert read_failure(Unavailable("slow down", upstream_status=429)) is Failure.TURNED_AWAY
    assert read_failure(Unavailable("cannot be reached")) is Failure.OUTAGE


@pytest.mark.parametrize("status", [403, 404, 405, 501])
def test_only_some_routes_may_be_missing(status: int) -> None:
    assert read_failure(answered(status, "Not Found"), optional=True) is Failure.NOT_OFFERED
    assert read_failure(answered(status, "Not Found")) is Failure.OUTAGE


def test_the_same_refusal_of_two_inputs_has_the_same_words() -> None:
    assert same_words(answered(400, "8 tokens are too many")) == same_words(answered(400, "1024 tokens are too many"))
    assert same_words(answered(400, "a token")) != same_words(answered(422, "a token"))


@pytest.mark.parametrize("reason", ["abort", "error", "cancelled", "timeout"])
def test_a_text_that_the_server_broke_off_is_no_answer(reason: str) -> None:
    response = ChatResponse.model_validate(completion([{"content": "re", "finish_reason": reason}]))
    with pytest.raises(UpstreamError, match="broke off itself"):
        check_chat(image_question("m", "u", "q"), response, "http://teacher")


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter", "eos"])
def test_other_endings_are_answers(reason: str) -> None:
    response = ChatResponse.model_validate(completion([{"content": "re", "finish_reason": reason}]))
    check_chat(image_question("m", "u", "q"), response, "http://teacher")


def test_an_empty_list_of_choices_is_no_answer() -> None:
    with pytest.raises(UpstreamError, match="empty list of choices"):
        check_chat(image_question("m", "u", "q"), ChatResponse(choices=[]), "http://teacher")


@pytest.mark.parametrize("scores", [[], [[]], [[], []]])
def test_another_number_of_scores_is_no_answer(scores: list[Any]) -> None:
    request = ScoreRequest(items=[ScoreItem(image="i", question="q", answers=["a"])])
    with pytest.raises(UpstreamError, match="number of scores"):
        check_scores(request, ScoreResponse(checkpoint="base", scores=scores), "http://student")


def test_another_number_of_maps_is_no_answer() -> None:
    request = AttentionRequest(items=[AttentionItem(image="i", question="q", answer="a")])
    with pytest.raises(UpstreamError, match="0 attention maps for 1 answers"):
        check_maps(request, AttentionResponse(version="base", layers=[], maps=[]), "http://student")
