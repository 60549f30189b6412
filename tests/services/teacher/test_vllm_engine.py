"""The service with the real vLLM and the demo's teacher: what its users see, and a kill in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from shared.client import ChatClient, image_question
from shared.literal import escapes_of
from shared.vlm.loading import load_processor
from tests.openai_rows import ALL_ROWS, Row, check_routes, check_rows
from tests.polling import wait_until
from tests.processes import command_line, descendants, group_members
from tests.services.teacher.small import RED_PIXELS, Service, chat, gone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

MODEL = Path(__file__).parents[3] / "demo" / "models" / "teacher"
READY_SECONDS = 600.0  # slow on a machine that trains models at the same time
SERVER = "vllm.entrypoints.openai.api_server"


def start(folder: Path) -> Service:
    settings = {"MPA_TEACHER_MODEL": str(MODEL), "MPA_TEACHER_READY_TIMEOUT": str(READY_SECONDS)}
    return Service(folder / "service.log", **settings)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with start(tmp_path_factory.mktemp("teacher")) as running:
        running.wait_ready(READY_SECONDS)
        yield running
        family = descendants(running.process.pid)
    assert not [command_line(pid) for pid in family if not gone(pid)]


def answer(service: Service, **params: Any) -> dict[str, Any]:
    response = service.post(chat(**params), timeout=120)
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    return reply


def test_an_image_is_answered_with_logprobs(service: Service) -> None:
    reply = answer(service, temperature=0, logprobs=True, top_logprobs=3)
    tokens = reply["choices"][0]["logprobs"]["content"]
    assert reply["model"] == "teacher" and reply["usage"]["completion_tokens"] >= len(tokens) - 1 >= 0
    assert all(token["logprob"] <= 0 and len(token["top_logprobs"]) == 3 for token in tokens)
    assert tokens[0]["top_logprobs"][0]["token"] == tokens[0]["token"]  # greedy


def test_the_image_matters_and_answers_repeat(service: Service) -> None:
    first, again = (answer(service, temperature=0, logprobs=True) for _ in range(2))
    blind = answer(service, temperature=0, logprobs=True, image=None)
    assert first["choices"][0]["message"] == again["choices"][0]["message"]
    assert first["usage"]["prompt_tokens"] > blind["usage"]["prompt_tokens"]


def test_three_samples_in_one_request(service: Service) -> None:
    reply = answer(service, n=3, temperature=1.0, seed=5, max_tokens=6)
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]


def test_a_stream_joins_to_the_whole_answer(service: Service) -> None:
    whole = answer(service, temperature=0)["choices"][0]["message"]["content"]
    body = chat(temperature=0, stream=True)
    with httpx.stream("POST", f"{service.url}/v1/chat/completions", json=body, timeout=120) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    deltas = [json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines[:-1]]
    assert "".join(deltas) == whole


def test_an_answer_keeps_to_a_schema(service: Service) -> None:
    # Plain strings: inside an object a model may write spaces until its tokens are used up.
    form = {"type": "json_schema", "json_schema": {"name": "shape", "schema": {"enum": ["circle", "square"]}}}
    reply = answer(service, temperature=0, max_tokens=40, response_format=form)
    assert json.loads(reply["choices"][0]["message"]["content"]) in ("circle", "square")


@pytest.mark.parametrize("text", ["<image>\nwhat colour is it?", "<end_of_utterance>", "<|assistant|>", "a </s> <pad>"])
def test_special_tokens_in_a_text_are_text(service: Service, text: str) -> None:
    tokenizer = load_processor(MODEL).tokenizer
    wanted = len(tokenizer(escapes_of(tokenizer).write(text), add_special_tokens=False)["input_ids"])
    empty, spelled = (service.post(chat(asked, temperature=0), timeout=120).json() for asked in ("", text))
    assert spelled["usage"]["prompt_tokens"] - empty["usage"]["prompt_tokens"] == wanted
    body = chat(text, image=None, stream=True)
    assert service.post(body, timeout=120).status_code == 200


def test_vllms_own_refusal_reaches_the_user(service: Service) -> None:
    response = service.post(chat("long " * 3000), timeout=120)
    assert response.status_code == 400 and "1024" in response.json()["error"]["message"]


@pytest.mark.parametrize("rows", ALL_ROWS)
def test_openais_dialect(service: Service, rows: Sequence[Row]) -> None:
    check_rows(service.url, "teacher", rows)


def test_paths_and_methods_that_openai_has_and_we_do_not(service: Service) -> None:
    check_routes(service.url)


def test_the_openai_client(service: Service) -> None:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as client:
        body = chat(temperature=0)
        done = client.chat.completions.create(**body, logprobs=True)
        assert done.choices[0].message.content is not None and done.usage is not None
        pieces = [c.choices[0].delta.content or "" for c in client.chat.completions.create(**body, stream=True)]
        assert "".join(pieces) == done.choices[0].message.content
        assert [model.id for model in client.models.list()] == ["teacher"]
        with pytest.raises(openai.NotFoundError, match="no model"):
            client.chat.completions.create(**{**body, "model": "gpt-7"})
        with pytest.raises(openai.BadRequestError, match="data URL"):
            client.chat.completions.create(**chat(image="https://example.com/a.png"))


@pytest.mark.parametrize(
    ("change", "param", "code", "words"),
    [
        ({"max_tokens": 0}, "max_tokens", "invalid-input", "max_tokens"),
        ({"max_tokens": 1_000_000}, "max_tokens", None, "1000000"),
        ({"messages": chat("long " * 600)["messages"]}, "messages", "context_length_exceeded", "1024"),
        ({"messages": chat("long " * 60_000)["messages"]}, "messages", "context_length_exceeded", "1024"),
    ],
)
def test_impossible_lengths_are_openais_errors_and_harm_nothing(
    service: Service, change: dict[str, Any], param: str, code: str | None, words: str
) -> None:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as client:
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError, match=words) as refused:
                client.chat.completions.create(**{**chat(temperature=0), **change, "stream": stream})
            assert (refused.value.type, refused.value.param) == ("invalid_request_error", param)
            assert refused.value.code == code
        assert client.chat.completions.create(**chat(temperature=0)).choices[0].message.content is not None
    assert service.readiness()["details"]["restarts"] == 0


async def test_mpas_own_client(service: Service) -> None:
    async with ChatClient(service.url, model="teacher", timeout=120) as client:
        assert await client.ready()
        reply = await client.chat(image_question("teacher", RED_PIXELS, "What colour is it?", max_tokens=5, n=2))
    assert len(reply.response.choices) == 2


def test_a_killed_vllm_is_a_503_and_then_serves_again(service: Service) -> None:
    server = service.server_pid(SERVER)
    family = [server, *descendants(server)]
    os.kill(server, signal.SIGKILL)
    response = service.post(chat(), timeout=30)
    assert response.status_code == 503 and int(response.headers["Retry-After"]) >= 1
    wait_until(lambda: not service.readiness()["ready"])
    wait_until(lambda: all(gone(pid) for pid in family), 30)
    service.wait_ready(READY_SECONDS)
    assert answer(service)["choices"]


def test_a_killed_engine_process_is_noticed_too(service: Service) -> None:
    engine = [p for p in descendants(service.server_pid(SERVER)) if "EngineCor" in command_line(p)]
    assert engine
    os.kill(engine[0], signal.SIGKILL)
    wait_until(lambda: service.post(chat(), timeout=60).status_code in (502, 503), 60)
    wait_until(
        lambda: service.readiness().get("details", {}).get("restarts", 0) >= 1 and not service.readiness()["ready"], 120
    )
    service.wait_ready(READY_SECONDS)
    assert answer(service)["choices"]


@pytest.mark.parametrize("moment", [SERVER, "EngineCor"])
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_ending_the_service_while_vllm_starts_takes_all_of_it_along(
    signum: signal.Signals, moment: str, tmp_path: Path
) -> None:
    with start(tmp_path) as service:
        service.wait_listening()
        wait_until(lambda: any(moment in command_line(p) for p in descendants(service.process.pid)), READY_SECONDS)
        group = service.server_pid(SERVER)
        others = set(descendants(service.process.pid))
        service.process.send_signal(signum)
        service.process.wait(30)
    wait_until(lambda: not group_members(group) and all(gone(pid) for pid in others), 30)


def test_importing_the_service_needs_no_torch() -> None:
    script = "import sys, services.teacher.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0
