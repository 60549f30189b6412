"""The HTTP face of a real service process, above a small model server that misbehaves on demand."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from shared.images import to_data_url
from tests.polling import wait_until
from tests.services.teacher.small import RED_PIXELS, Service, SmallModel, chat, gone
from tests.tiny_models import build_tiny_idefics3

pytestmark = pytest.mark.slow  # starts and kills real processes

STOPPED = (0, -signal.SIGTERM)  # uvicorn, having shut down in order, ends by the signal that it was sent


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    return SmallModel(tmp_path_factory.mktemp("small"))


def start(small: SmallModel, **settings: str) -> Service:
    service = Service(
        small.folder / "service.log",
        MPA_TEACHER_VLLM_PYTHON=str(small.interpreter()),
        SMALL_FOLDER=str(small.folder),
        **settings,
    )
    return service


@pytest.fixture(scope="module")
def running(small: SmallModel) -> Iterator[Service]:
    with start(small, MPA_MAX_BODY="1MiB") as service:
        yield service
        assert service.stop() in STOPPED
    assert all(gone(pid) for pid in small.helpers)


@pytest.fixture
def service(running: Service, small: SmallModel) -> Service:
    """The module's service, ready, with a server that works."""
    small.set("ok")
    running.wait_ready()
    return running


def message(response: httpx.Response, status: int) -> str:
    """The words of an OpenAI-shaped error."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    return str(error["message"])


def test_a_chat_is_passed_on_as_it_came_and_its_answer_too(service: Service, small: SmallModel) -> None:
    body = json.dumps(chat(seed=7, n=3, response_format={"type": "json_object"}, logprobs=True), indent=None) + "  "
    response = httpx.post(f"{service.url}/v1/chat/completions", content=body, timeout=30)
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == "red"
    assert small.notes("body")[-1] == body.strip()


def test_a_server_that_would_not_put_escapes_back_gets_the_text_itself(service: Service, small: SmallModel) -> None:
    body = json.dumps(chat("is the <image> tag < [5]?"))
    assert httpx.post(f"{service.url}/v1/chat/completions", content=body, timeout=30).status_code == 200
    assert small.notes("body")[-1] == body


def test_models_names_the_teacher(service: Service) -> None:
    listed = httpx.get(f"{service.url}/v1/models", timeout=10).json()
    assert [model["id"] for model in listed["data"]] == ["teacher"]


def test_the_model_servers_metrics_are_shown_beside_the_services_own(service: Service, small: SmallModel) -> None:
    shown = httpx.get(f"{service.url}/metrics", timeout=10).text
    assert 'vllm:prefix_cache_hits_total{engine="0",model_name="teacher"} 192.0' in shown
    assert "mpa_teacher_http_requests_total" in shown and "python_gc" not in shown
    families = {family.name for family in text_string_to_metric_families(shown)}
    assert {"vllm:prefix_cache_hits", "mpa_teacher_http_requests"} <= families
    os.kill(service.readiness()["details"]["pid"], signal.SIGKILL)
    wait_until(lambda: not service.readiness()["ready"])
    shown = httpx.get(f"{service.url}/metrics", timeout=10)
    assert shown.status_code == 200 and "mpa_teacher_http_requests_total" in shown.text


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"model": "gpt-7"}, 404, "gpt-7"),
        ({"temprature": 1}, 400, "temprature: unknown field"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"messages": []}, 400, "messages"),
        ({"top_logprobs": 21}, 400, "top_logprobs"),
    ],
)
def test_a_wrong_request_is_refused_in_words(service: Service, change: dict[str, Any], status: int, words: str) -> None:
    assert words in message(service.post({**chat(), **change}), status)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("https://example.com/secret.png", "data URL"),
        ("file:///etc/passwd", "data URL"),
        ("data:image/png;base64,!!!", "base64"),
        ("data:image/png;base64,", "empty"),
        ("data:image/png;base64,aGVsbG8=", "not an image"),
    ],
)
def test_an_image_that_is_none_is_refused_before_the_model_sees_it(
    service: Service, small: SmallModel, image: str, words: str
) -> None:
    asked = len([note for note in small.notes("body") if image in note])
    assert words in message(service.post(chat(image=image)), 400)
    assert len([note for note in small.notes("body") if image in note]) == asked


def test_a_body_that_is_no_json_or_too_large_is_refused(service: Service) -> None:
    url = f"{service.url}/v1/chat/completions"
    assert "JSON" in message(httpx.post(url, content=b"{", timeout=10), 400)
    assert "MPA_MAX_BODY" in message(httpx.post(url, content=b" " * 2**21, timeout=10), 413)


def test_the_servers_refusal_is_passed_on_in_openais_shape(service: Service, small: SmallModel) -> None:
    small.set("refuse")
    assert message(service.post(chat()), 400) == "too many tokens"


def test_the_servers_failure_is_a_502_that_quotes_it(service: Service, small: SmallModel) -> None:
    small.set("fail")
    assert "the engine is upset" in message(service.post(chat()), 502)


def test_a_stream_is_passed_on_event_by_event(service: Service) -> None:
    with httpx.stream("POST", f"{service.url}/v1/chat/completions", json=chat(stream=True), timeout=30) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert len(lines) == 3 and lines[-1] == "data: [DONE]"


def test_a_server_that_dies_in_a_stream_ends_it_with_an_error_event(service: Service, small: SmallModel) -> None:
    small.set("die_in_stream")
    with httpx.stream("POST", f"{service.url}/v1/chat/completions", json=chat(stream=True), timeout=30) as response:
        lines = [line for line in response.iter_lines() if line]
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "unavailable"


def test_a_server_that_dies_in_a_request_is_a_503_and_comes_back(service: Service, small: SmallModel) -> None:
    restarts = service.readiness()["details"]["restarts"]
    small.set("die")
    response = service.post(chat())
    assert "again" in message(response, 503) and int(response.headers["Retry-After"]) >= 1
    wait_until(lambda: service.readiness().get("details", {}).get("restarts", 0) > restarts)
    small.set("ok")
    service.wait_ready()
    assert service.post(chat()).status_code == 200


def test_while_the_server_is_down_requests_get_503_and_readiness_is_false(service: Service, small: SmallModel) -> None:
    small.set("end")
    os.kill(service.readiness()["details"]["pid"], signal.SIGKILL)
    wait_until(lambda: not service.readiness()["ready"])
    response = service.post(chat())
    assert "model server" in message(response, 503) and int(response.headers["Retry-After"]) >= 1
    assert httpx.get(f"{service.url}/readyz", timeout=10).status_code == 503
    assert httpx.get(f"{service.url}/healthz", timeout=10).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_model(service: Service, small: SmallModel, stream: bool) -> None:
    left = len(small.notes("hung up"))
    small.set("hang")
    with pytest.raises(httpx.ReadTimeout):
        service.post(chat(stream=stream), timeout=1.0)
    wait_until(lambda: len(small.notes("hung up")) > left)


def test_many_requests_at_once(service: Service) -> None:
    with httpx.Client(timeout=60, limits=httpx.Limits(max_connections=32)) as client, ThreadPoolExecutor(32) as pool:
        url = f"{service.url}/v1/chat/completions"
        statuses = list(pool.map(lambda i: client.post(url, json=chat(f"Question {i}?")).status_code, range(100)))
    assert statuses == [200] * 100


def test_the_api_key_is_asked_for(tmp_path: Path) -> None:
    small = SmallModel(tmp_path)
    with start(small, MPA_API_KEY="open sesame") as service:
        service.wait_ready()
        assert "Bearer" in message(service.post(chat()), 401)
        assert service.post(chat(), headers={"Authorization": "Bearer open sesame"}).status_code == 200


def test_sigterm_lets_requests_finish_and_leaves_no_process(tmp_path: Path) -> None:
    small = SmallModel(tmp_path)
    with start(small) as service:
        service.wait_ready()
        server = service.readiness()["details"]["pid"]
        asked = len(small.notes("body"))
        small.set("slow")
        statuses: list[int] = []
        asking = threading.Thread(target=lambda: statuses.append(service.post(chat()).status_code))
        asking.start()
        wait_until(lambda: len(small.notes("body")) > asked)
        assert service.stop() in STOPPED
        asking.join(10)
        assert statuses == [200]
        assert gone(server) and all(gone(pid) for pid in small.helpers)


def test_a_request_that_never_ends_does_not_hold_up_the_shutdown(tmp_path: Path) -> None:
    small = SmallModel(tmp_path)
    with start(small, MPA_SHUTDOWN_GRACE="1") as service:
        service.wait_ready()
        asked = len(small.notes("body"))
        small.set("hang")
        asking = threading.Thread(target=lambda: _ignore_errors(service))
        asking.start()
        wait_until(lambda: len(small.notes("body")) > asked)
        began = time.monotonic()
        service.stop()
        assert time.monotonic() - began < 12
        asking.join(10)
        assert all(gone(pid) for pid in small.helpers)


def test_killing_the_service_takes_the_server_along(tmp_path: Path) -> None:
    small = SmallModel(tmp_path)
    with start(small) as service:
        service.wait_ready()
        server = service.readiness()["details"]["pid"]
        service.process.kill()
        service.process.wait(10)
        wait_until(lambda: gone(server))
        for pid in small.helpers:  # a plain child of the small server, which unlike vLLM's does not watch its parent
            os.kill(pid, signal.SIGKILL)


def _ignore_errors(service: Service) -> None:
    try:
        service.post(chat())
    except httpx.HTTPError:
        return


LOOK = {"items": [{"image": RED_PIXELS, "question": "what is this?", "answer": "red"}], "grid": 4}


def test_the_probe_shows_where_the_teacher_looks(tmp_path: Path) -> None:
    model = build_tiny_idefics3(tmp_path / "model", seed=3)
    with start(SmallModel(tmp_path / "small"), MPA_ATTENTION_PROBE="true", MPA_TEACHER_MODEL=str(model)) as service:
        service.wait_ready()
        assert service.readiness()["details"]["attention"] is True
        response = httpx.post(f"{service.url}/v1/attention", json=LOOK, timeout=120)
        assert response.status_code == 200, response.text
        found = response.json()
        assert found["version"] == str(model) and sum(map(sum, found["maps"][0]["values"])) == pytest.approx(
            1, abs=1e-4
        )


def test_the_probe_is_off_by_default(service: Service) -> None:
    response = httpx.post(f"{service.url}/v1/attention", json=LOOK, timeout=30)
    assert response.status_code == 403 and "MPA_ATTENTION_PROBE" in response.json()["detail"]


def noise_png() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((96, 96), 90).convert("RGB").save(file, "PNG")
    return file.getvalue()


def hundred_megapixels() -> bytes:
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (noise_png()[:2000], "damaged or truncated"),
        (hundred_megapixels(), "10000×10000 pixels, more than the limit"),
    ],
)
def test_an_image_that_cannot_be_decoded_safely_is_refused(
    service: Service, small: SmallModel, image: bytes, words: str
) -> None:
    seen = len(small.notes("body"))
    response = service.post(chat(image=to_data_url(image)))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"} and words in error["message"]
    assert len(small.notes("body")) == seen
    assert service.post(chat()).status_code == 200


def test_fifty_images_are_too_many(service: Service) -> None:
    """Refused before any is decoded: decoded, they could take all memory."""
    body = chat()
    body["messages"][0]["content"][:1] *= 50
    assert "has 50 images; at most 8 are read (MPA_TEACHER_MAX_IMAGES)" in message(service.post(body), 400)
    assert service.post(chat()).status_code == 200
