"""The student as OpenAI clients see it: versions by name, images by web address, and what is refused how."""

from __future__ import annotations

import asyncio
import base64
import io
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI
from fastapi.responses import RedirectResponse, Response
from PIL import Image

from services.student.app import build_app
from shared.checkpoints import CheckpointRegistry
from shared.settings import StudentSettings
from shared.store import Store
from tests.openai_rows import ALL_ROWS, Row, check_routes, check_rows
from tests.polling import async_wait_until
from tests.quick_server import ServerThread
from tests.services.student.small_replica import Running, png, publish, running
from tests.slow_sender import slow_sender
from tests.tiny_models import build_tiny_idefics3


@pytest.fixture
async def replica(settings: StudentSettings) -> AsyncIterator[Running]:
    async with running(settings) as started:
        yield started


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """A web server with images; on a private address, as any that a test can have."""
    app = FastAPI()

    @app.get("/a.png")
    def image() -> Response:
        return Response(png(60), media_type="image/png")

    @app.get("/moved.png")
    def moved() -> Response:
        return RedirectResponse("/a.png")

    @app.get("/large.png")
    def large() -> Response:
        return Response(b"x" * 200_000)

    server = ServerThread(app)
    yield server.url
    server.stop()


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[str]:
    """The address of a student that serves until the module's end."""
    settings = StudentSettings(data_dir=tmp_path_factory.mktemp("student"), student_model=str(base), redis_url="")
    server = ServerThread(build_app(settings))
    yield server.url
    server.stop()


@pytest.mark.parametrize("rows", ALL_ROWS)
def test_openais_dialect(student: str, rows: Sequence[Row]) -> None:
    check_rows(student, "student", rows)


def test_paths_and_methods_that_openai_has_and_we_do_not(student: str) -> None:
    check_routes(student)


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def body(url: str | None = None, text: str = "what is this?", **params: Any) -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": url or data_url(png(60))}}
    message = {"role": "user", "content": [image, {"type": "text", "text": text}]}
    return {"model": "student", "messages": [message], "max_tokens": 4, "temperature": 0, **params}


async def post(replica: Running, content: dict[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient(base_url=replica.client.base_url, timeout=60) as http:
        return await http.post("/v1/chat/completions", json=content)


async def refused(replica: Running, content: dict[str, Any], status: int = 400) -> dict[str, Any]:
    """The error, in OpenAI's shape; the student goes on answering."""
    response = await post(replica, content)
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (await post(replica, body())).status_code == 200
    return error


async def test_a_model_name_may_ask_for_one_version(
    replica: Running, settings: StudentSettings, tmp_path: Path
) -> None:
    registry = CheckpointRegistry(Store(settings.store_url), "student")
    publish(registry, build_tiny_idefics3(tmp_path / "other", seed=9), "job-b")
    async with openai.AsyncOpenAI(base_url=f"{replica.client.base_url}/v1", api_key="x", max_retries=0) as client:
        ids = [model.id async for model in client.models.list()]
        assert ids[0] == "student" and set(ids) == {"student", "student@base", "student@job-b"}
        reply = await client.chat.completions.create(**body(model="student@base"))
        assert reply.system_fingerprint == "base"
        with pytest.raises(openai.NotFoundError, match=r"job-b.*is not being served"):
            await client.chat.completions.create(**body(model="student@job-b"))
        await replica.client.activate("job-b", by="test")
        assert (await client.chat.completions.create(**body(model="student@job-b"))).system_fingerprint == "job-b"


async def test_parameters_that_are_not_honoured_are_refused_as_openai_does(replica: Running) -> None:
    for fields, code in (({"frequency_penalty": 1.0}, "unsupported_value"), ({"tempratur": 1}, "unknown_parameter")):
        error = await refused(replica, body(**fields))
        assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", next(iter(fields)), code)
    assert (await refused(replica, body(max_tokens=0)))["param"] == "max_tokens"
    assert (await refused(replica, {**body(), "messages": []}))["param"] == "messages"


def truncated() -> bytes:
    return png(60)[:2000]


def hundred_megapixels() -> bytes:
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (body(data_url(b"no image at all")), "Image 1 of 1: .* not an image"),
        (body(data_url(truncated())), "Image 1 of 1: .* truncated"),
        (body(data_url(hundred_megapixels())), "10000×10000 pixels, more than the limit"),
        (body("data:image/png;base64,!!!"), "not valid base64"),
        (body(max_tokens=1_000_000), "at most 256 are generated"),
        (body(text="word " * 3000), "shorten the prompt"),
        (body(n=2, top_logprobs=3), "needs logprobs"),
        (body("https://example.com/a.png"), "MPA_CHAT_IMAGE_URLS"),
    ],
)
async def test_bad_requests_name_what_is_wrong(replica: Running, content: dict[str, Any], words: str) -> None:
    error = await refused(replica, content)
    assert re.search(words, error["message"]), error["message"]


async def test_fifty_images_are_too_many(replica: Running) -> None:
    content = body()
    content["messages"][0]["content"][:1] *= 50
    assert "has 50 images; at most 4" in (await refused(replica, content))["message"]


async def test_another_model_is_not_found(replica: Running) -> None:
    error = await refused(replica, body(model="gpt-7"), 404)
    assert "'gpt-7'" in error["message"] and "'student'" in error["message"]


async def test_a_body_over_the_limit(settings: StudentSettings) -> None:
    async with running(settings, {"max_body": 50_000}) as replica:
        assert (await post(replica, body(text="x" * 60_000))).status_code == 413
        assert (await post(replica, body())).status_code == 200


async def test_work_for_a_stream_that_nobody_reads_ends(replica: Running) -> None:
    engine = replica.app.state.rollout.engine
    async with httpx.AsyncClient(base_url=replica.client.base_url, timeout=60) as http:
        content = body(stream=True, max_tokens=250, temperature=1.0, seed=1, n=8)
        async with http.stream("POST", "/v1/chat/completions", json=content) as response:
            await anext(response.aiter_lines())

    async def idle() -> bool:
        answered = await asyncio.wait_for(engine._model.call(lambda serving: serving.version), 30)
        return bool(answered == "base" and engine.queued == 0)

    await async_wait_until(idle, 30)


async def test_images_by_web_address_where_the_operator_allows_them(settings: StudentSettings, web: str) -> None:
    allowed = {"chat_image_urls": True, "chat_private_image_urls": True, "max_image_bytes": 100_000}
    async with running(settings, allowed) as replica:
        by_data = (await post(replica, body())).json()["choices"][0]
        for path in ("a.png", "moved.png"):
            assert (await post(replica, body(f"{web}/{path}"))).json()["choices"][0] == by_data
        assert "answered 404" in (await refused(replica, body(f"{web}/none.png")))["message"]
        assert "more than the limit" in (await refused(replica, body(f"{web}/large.png")))["message"]


@pytest.mark.slow
@pytest.mark.parametrize("path", ["headers", "body.png"])
async def test_a_sender_that_drips_its_bytes_is_given_up(settings: StudentSettings, path: str) -> None:
    """Each byte comes in time, the image never does; and those who send theirs along do not wait for it."""
    allowed = {"chat_image_urls": True, "chat_private_image_urls": True, "chat_image_timeout": timedelta(seconds=1)}
    with slow_sender() as url:
        async with running(settings, allowed) as replica:
            error = await refused(replica, body(f"{url}/{path}"))
            assert (error["type"], error["code"]) == ("invalid_request_error", "image-timeout")
            assert error["message"] == f"Image 1 of 1: {url}/{path} was not complete after 1 s."
            slow = [asyncio.create_task(post(replica, body(f"{url}/{path}"))) for _ in range(40)]
            assert (await post(replica, body())).status_code == 200
            assert not all(task.done() for task in slow)
            assert {response.status_code for response in await asyncio.gather(*slow)} == {400}


async def test_private_addresses_are_not_fetched_from(settings: StudentSettings, web: str) -> None:
    async with running(settings, {"chat_image_urls": True}) as replica:
        assert "private address" in (await refused(replica, body(f"{web}/a.png")))["message"]
        assert "private address" in (await refused(replica, body("http://169.254.169.254/meta")))["message"]


async def test_scores_that_the_check_found_wrong_are_off_and_chat_goes_on(replica: Running) -> None:
    replica.app.state.rollout.engine._score_trouble = "they are out of step"
    item = {"image": data_url(png(60)), "question": "what is this?", "answers": ["red"]}
    async with httpx.AsyncClient(base_url=replica.client.base_url, timeout=60) as http:
        response = await http.post("/v1/score", json={"items": [item]})
        health = (await http.get("/readyz")).json()
    assert response.status_code == 503 and "they are out of step" in response.json()["detail"]
    assert health["ready"] and health["details"]["score"] == "off: they are out of step"
    assert (await post(replica, body())).status_code == 200


async def test_the_attention_probe_is_off_unless_the_operator_wants_it(replica: Running) -> None:
    item = {"image": data_url(png(60)), "question": "what is this?", "answer": "red"}
    async with httpx.AsyncClient(base_url=replica.client.base_url, timeout=60) as http:
        response = await http.post("/v1/attention", json={"items": [item]})
        assert response.status_code == 403 and "MPA_ATTENTION_PROBE" in response.json()["detail"]
        assert (await http.get("/readyz")).json()["details"]["attention"] is False


async def test_attention_of_the_serving_checkpoint(settings: StudentSettings) -> None:
    item = {"image": data_url(png(60)), "question": "what is this?", "answer": "red"}
    async with (
        running(settings, {"attention_probe": True}) as replica,
        httpx.AsyncClient(base_url=replica.client.base_url, timeout=60) as http,
    ):
        found = (await http.post("/v1/attention", json={"items": [item, item], "grid": 4})).json()
        assert found["version"] == "base" and found["layers"] == [0]
        assert [len(one["values"]) for one in found["maps"]] == [4, 4]
        assert sum(map(sum, found["maps"][0]["values"])) == pytest.approx(1, abs=1e-4)
        bad = await http.post("/v1/attention", json={"items": [item, {**item, "image": data_url(b"nothing")}]})
        assert bad.status_code == 422 and "items[1]" in bad.json()["detail"]
        assert (await http.get("/readyz")).json()["details"]["attention"] is True
