"""The fall-back engine in a real service process, with the demo's teacher."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from shared.literal import escapes_of
from shared.vlm.loading import load_processor
from tests.openai_rows import ALL_ROWS, Row, check_routes, check_rows
from tests.polling import wait_until
from tests.services.teacher.small import Service, chat

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MODEL = Path(__file__).parents[3] / "demo" / "models" / "teacher"
READY_SECONDS = 300.0  # importing torch takes minutes on a machine that trains models at the same time


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("teacher")
    with Service(folder / "log", MPA_TEACHER_ENGINE="transformers", MPA_TEACHER_MODEL=str(MODEL)) as running:
        running.wait_ready(READY_SECONDS)
        yield running


def test_an_image_is_answered_with_logprobs(service: Service) -> None:
    reply = service.post(chat(temperature=0, logprobs=True, top_logprobs=2)).json()
    tokens = reply["choices"][0]["logprobs"]["content"]
    assert tokens and all(t["logprob"] == pytest.approx(t["top_logprobs"][0]["logprob"]) for t in tokens)
    assert reply["usage"]["prompt_tokens"] > 10


@pytest.mark.parametrize("rows", ALL_ROWS)
def test_openais_dialect(service: Service, rows: Sequence[Row]) -> None:
    check_rows(service.url, "teacher", rows)


def test_paths_and_methods_that_openai_has_and_we_do_not(service: Service) -> None:
    check_routes(service.url)


def test_samples_differ_by_choice_and_repeat_by_seed(service: Service) -> None:
    body = chat(temperature=2.0, n=4, seed=3, max_tokens=12)
    first, again = (service.post(body).json()["choices"] for _ in range(2))
    assert first == again
    assert len({choice["message"]["content"] for choice in first}) > 1


def test_a_crowd_gets_the_answers_that_one_gets(service: Service) -> None:
    bodies = [chat(f"What is in place {place}?", temperature=0) for place in range(12)]
    alone = [service.post(body).json()["choices"][0]["message"]["content"] for body in bodies[:3]]
    with ThreadPoolExecutor(12) as pool:
        crowd = [r.json()["choices"][0]["message"]["content"] for r in pool.map(service.post, bodies)]
    assert crowd[:3] == alone


def test_a_stream_holds_the_whole_answer(service: Service) -> None:
    body = chat(temperature=0, stream=True, stream_options={"include_usage": True})
    with httpx.stream("POST", f"{service.url}/v1/chat/completions", json=body, timeout=30) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    whole = service.post(chat(temperature=0)).json()["choices"][0]["message"]["content"]
    *chunks, usage = [json.loads(line) for line in lines[:-1]]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0]["role"] == "assistant" and "".join(delta.get("content", "") for delta in deltas) == whole
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["completion_tokens"] > 0 and lines[-1] == "[DONE]"


@pytest.mark.parametrize("text", ["<image>\nwhat colour is it?", "<end_of_utterance>", "<|assistant|>", "a </s> <pad>"])
def test_special_tokens_in_a_text_are_text(service: Service, text: str) -> None:
    loaded = load_processor(MODEL).tokenizer
    empty, spelled = (
        service.post(chat(question, temperature=0)).json()["usage"]["prompt_tokens"] for question in ("", text)
    )
    assert spelled - empty == len(loaded(escapes_of(loaded).write(text), add_special_tokens=False)["input_ids"])
    assert service.post(chat(text, image=None)).status_code == 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"response_format": {"type": "json_object"}}, "MPA_TEACHER_ENGINE=vllm"),
        ({"max_tokens": 5000}, "shorten the prompt"),
        ({"top_logprobs": 2}, "logprobs: true"),
    ],
)
def test_what_it_cannot_do_is_refused(service: Service, change: dict[str, object], words: str) -> None:
    response = service.post({**chat(), **change})
    assert response.status_code == 400 and words in response.json()["error"]["message"]


def test_a_folder_without_a_model_is_named_in_the_readiness(tmp_path: Path) -> None:
    with Service(tmp_path / "log", MPA_TEACHER_ENGINE="transformers", MPA_TEACHER_MODEL=str(tmp_path)) as service:
        wait_until(lambda: "cannot be loaded" in service.readiness()["reason"], READY_SECONDS)
        response = service.post(chat())
    assert response.status_code == 503 and str(tmp_path) in response.json()["error"]["message"]
