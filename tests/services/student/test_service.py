"""The student service over real HTTP with a real (tiny, random) model: answers, swaps under load, refusals."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
import torch
import uvicorn
from openai import AsyncOpenAI, BadRequestError, NotFoundError
from PIL import Image
from safetensors.torch import load_file, save_file

from demo.training.architecture import Size
from services.student.app import build_app
from shared.checkpoints import CheckpointRegistry, build_card
from shared.client import StudentClient, image_question
from shared.contracts import ChatRequest, ScoreItem, ScoreRequest, SmokeAnswer
from shared.errors import Unavailable, UpstreamError
from shared.ports import free_port
from shared.settings import StudentSettings
from shared.store import Store
from tests.tiny_models import build_tiny_idefics3

QUESTION = "what is this?"


def png(seed: int = 60) -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("RGB", (96, 96), Random(seed).randbytes(96 * 96 * 3)).save(buffer, "PNG")
    return buffer.getvalue()


def url(seed: int = 60) -> str:
    return "data:image/png;base64," + base64.b64encode(png(seed)).decode()


def ask(seed: int = 60, **params: Any) -> ChatRequest:
    """A sampled but seeded answer: a random model's greedy one is often a special token, which has no text."""
    return image_question("student", url(seed), QUESTION, **{"max_tokens": 6, "temperature": 1.0, "seed": 5, **params})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return build_tiny_idefics3(tmp_path_factory.mktemp("base"), seed=0)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_idefics3(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture
def settings(tmp_path: Path, base: Path) -> StudentSettings:
    return StudentSettings(data_dir=tmp_path, student_model=str(base), student_max_wait=timedelta(milliseconds=2))


@pytest.fixture
def registry(settings: StudentSettings) -> CheckpointRegistry:
    return CheckpointRegistry(Store(settings.store_url), "student")


@asynccontextmanager
async def serving(settings: StudentSettings) -> AsyncIterator[StudentClient]:
    server = uvicorn.Server(uvicorn.Config(build_app(settings), host="127.0.0.1", port=0, log_level="error"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the service ended while it started"
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with StudentClient(f"http://127.0.0.1:{port}", model="student") as client:
        yield client
    server.should_exit = True
    await task


def publish(registry: CheckpointRegistry, folder: Path, version: str, smoke: SmokeAnswer | None = None) -> str:
    return registry.publish(folder, build_card(folder, version=version, student="student", base="base", smoke=smoke))


async def answer_of(client: StudentClient, seed: int = 60) -> tuple[str, str]:
    reply = await client.chat(ask(seed))
    return reply.checkpoint or "", reply.response.choices[0].message.content or ""


async def test_answers_name_their_checkpoint(settings: StudentSettings) -> None:
    async with serving(settings) as client:
        reply = await client.chat(ask(n=2, temperature=1.0, seed=3, logprobs=True, top_logprobs=2))
        assert reply.checkpoint == "base"
        assert (reply.response.system_fingerprint, reply.response.model) == ("base", "student")
        assert [c.index for c in reply.response.choices] == [0, 1]
        tokens = reply.response.choices[0].logprobs
        assert tokens is not None
        assert tokens.content
        assert all(len(t.top_logprobs) == 2 for t in tokens.content)
        assert reply.response.usage is not None
        assert reply.response.usage.prompt_tokens > 60
        again = await client.chat(ask(n=2, temperature=1.0, seed=3))
        assert [c.message.content for c in again.response.choices] == [
            c.message.content for c in reply.response.choices
        ]
        models = await client.models()
        assert [(m.id, m.checkpoint) for m in models.data] == [("student", "base"), ("student@base", "base")]


async def test_concurrent_requests_share_batches_and_keep_their_answers(settings: StudentSettings) -> None:
    async with serving(settings) as client:
        alone = [await answer_of(client, seed) for seed in range(50, 62)]
        together = await asyncio.gather(*(answer_of(client, seed) for seed in range(50, 62)))
    assert together == alone


async def test_the_openai_client_works(settings: StudentSettings) -> None:
    messages: Any = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url()}}, {"type": "text", "text": "?"}]}
    ]
    async with (
        serving(settings) as client,
        AsyncOpenAI(base_url=f"{client.base_url}/v1", api_key="x", max_retries=0) as openai,
    ):
        create = openai.chat.completions.create
        reply = await create(model="student", messages=messages, max_tokens=6, temperature=0, logprobs=True)
        stream = await create(
            model="student",
            messages=messages,
            max_tokens=6,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        assert (
            "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == reply.choices[0].message.content
        )
        assert chunks[-1].usage is not None
        with pytest.raises(NotFoundError, match="use 'student'"):
            await create(model="gpt", messages=messages)
        with pytest.raises(BadRequestError, match="max_tokens is 100000"):
            await create(model="student", messages=messages, max_tokens=100_000)
        with pytest.raises(BadRequestError, match="presence_penalty: unknown field"):
            await create(model="student", messages=messages, presence_penalty=0.5)
        with pytest.raises(BadRequestError, match="response_format"):
            await create(model="student", messages=messages, response_format={"type": "json_object"})


async def stream_of(http: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    body = ask(stream=True, **params).model_dump(mode="json", exclude_none=True)
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["x-mpa-checkpoint"] == "base"
        lines = [line.removeprefix("data: ") async for line in response.aiter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def test_a_stream_says_what_the_whole_answer_says(settings: StudentSettings) -> None:
    params = {"n": 2, "max_tokens": 12, "logprobs": True, "top_logprobs": 2}
    async with serving(settings) as client, httpx.AsyncClient(base_url=client.base_url, timeout=60) as http:
        whole = (await client.chat(ask(**params))).response
        chunks = await stream_of(http, stream_options={"include_usage": True}, **params)
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    for expected in whole.choices:
        mine = [c for c in choices if c["index"] == expected.index]
        tokens = [t for c in mine for t in (c.get("logprobs") or {"content": []})["content"]]
        assert "".join(c["delta"].get("content", "") for c in mine) == expected.message.content
        assert expected.logprobs is not None
        assert tokens == [t.model_dump() for t in expected.logprobs.content or []]
        assert [c["finish_reason"] for c in mine if c["finish_reason"]] == [expected.finish_reason]
    assert [c["index"] for c in choices] != sorted(c["index"] for c in choices), "choices come as they are decoded"
    assert whole.usage is not None
    assert chunks[-1]["usage"] == whole.usage.model_dump()


async def test_a_refused_stream_has_a_status_of_its_own(settings: StudentSettings) -> None:
    async with serving(settings) as client, httpx.AsyncClient(base_url=client.base_url, timeout=60) as http:
        request = image_question("student", url(), "why " * 1200, max_tokens=2, stream=True)
        response = await http.post("/v1/chat/completions", json=request.model_dump(mode="json", exclude_none=True))
    assert response.status_code == 400
    assert "the model reads at most" in response.json()["error"]["message"]


async def batches(http: httpx.AsyncClient) -> tuple[int, int]:
    """(batches, answers) that the model has begun since the start."""
    lines = dict(line.rsplit(" ", 1) for line in (await http.get("/metrics")).text.splitlines() if line[0] != "#")
    return int(float(lines["mpa_student_batch_answers_count"])), int(float(lines["mpa_student_batch_answers_sum"]))


async def test_arrivals_share_batches(settings: StudentSettings) -> None:
    async with serving(settings) as client, httpx.AsyncClient(base_url=client.base_url, timeout=60) as http:
        await asyncio.gather(*(client.chat(ask(seed)) for seed in range(24)))
        count, answers = await batches(http)
    assert answers == 24
    assert count <= 12


async def test_a_client_that_hangs_up_stops_its_work(settings: StudentSettings) -> None:
    """A stream is left after its first chunk, and so is a request that waits behind it, which is never begun."""
    alone = settings.model_copy(update={"student_max_batch": 1, "student_max_tokens": 900})
    async with serving(alone) as client, httpx.AsyncClient(base_url=client.base_url, timeout=60) as http:
        body = ask(stream=True, max_tokens=900).model_dump(mode="json", exclude_none=True)
        async with http.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = response.aiter_lines()
            await anext(lines)
            waiting = asyncio.create_task(client.chat(ask(max_tokens=900)))
            async with asyncio.timeout(30):
                while (await http.get("/readyz")).json()["details"]["queued"] < 1:
                    await asyncio.sleep(0.01)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
            async with asyncio.timeout(30):
                while 'status="499"' not in (await http.get("/metrics")).text:
                    await asyncio.sleep(0.01)
        await client.chat(ask())
        assert (await batches(http))[1] == 2, "the stream and the last request"


@pytest.mark.slow
async def test_requests_in_flight_at_sigterm_finish(settings: StudentSettings, base: Path) -> None:
    port = free_port()
    environment = {
        **os.environ,
        "MPA_DATA_DIR": str(settings.data_dir),
        "MPA_STUDENT_MODEL": str(base),
        "MPA_STUDENT_PORT": str(port),
        "MPA_SHUTDOWN_GRACE": "60",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.student", env=environment)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            async with asyncio.timeout(180):
                while not await _answers(http):
                    await asyncio.sleep(0.1)
            body = ask(stream=True, max_tokens=200, seed=6).model_dump(mode="json", exclude_none=True)
            async with http.stream("POST", "/v1/chat/completions", json=body) as response:
                lines = response.aiter_lines()
                await anext(lines)
                process.terminate()
                rest = [line async for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        async with asyncio.timeout(60):
            assert await process.wait() in (0, -signal.SIGTERM)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _answers(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("data:image/png;base64,aGVsbG8=", "Image 1 of 1: The bytes are not an image"),
        ("https://example.org/x.png", "MPA_CHAT_IMAGE_URLS"),
        ("data:image/png;base64," + base64.b64encode(png()[:900]).decode(), "damaged or truncated"),
    ],
)
async def test_bad_images_are_refused_with_a_reason(settings: StudentSettings, image: str, words: str) -> None:
    async with serving(settings) as client:
        with pytest.raises(UpstreamError, match=words) as caught:
            await client.chat(image_question("student", image, "?", max_tokens=2))
        assert caught.value.upstream_status == 400
        assert (await answer_of(client))[0] == "base"


async def test_too_many_images_and_too_long_prompts(settings: StudentSettings) -> None:
    async with serving(settings) as client:
        request = ask()
        request.messages = request.messages * 5
        with pytest.raises(UpstreamError, match="at most 4"):
            await client.chat(request)
        with pytest.raises(UpstreamError, match="the model reads at most 1024"):
            await client.chat(image_question("student", url(), "why " * 1200, max_tokens=2))
        with pytest.raises(UpstreamError, match="messages"):
            await client._send("POST", "/v1/chat/completions", json={"model": "student", "messages": []})


async def test_a_full_queue_answers_429(settings: StudentSettings) -> None:
    tight = settings.model_copy(update={"student_queue_size": 2, "student_max_batch": 1})
    async with serving(tight) as client:
        results = await asyncio.gather(
            *(client.chat(ask(n=2, max_tokens=40)) for _ in range(12)), return_exceptions=True
        )
    refused = [r for r in results if isinstance(r, Unavailable)]
    assert refused
    assert all(r.retry_after == 1 for r in refused)
    assert len(refused) < 12


async def test_scores(settings: StudentSettings) -> None:
    async with serving(settings) as client:
        scores = await client.score(
            ScoreRequest(items=[ScoreItem(image=url(), question=QUESTION, answers=["red", "two words"])])
        )
        assert scores.checkpoint == "base"
        assert [s.answer for s in scores.scores[0]] == ["red", "two words"]
        for score in scores.scores[0]:
            assert score.logprob == pytest.approx(sum(score.token_logprobs), abs=1e-5)
        bad = ScoreRequest(items=[ScoreItem(image="data:,", question="?", answers=["x"])])
        with pytest.raises(UpstreamError, match=r"items\[0\]: Image 1 of 1"):
            await client.score(bad)


async def test_swaps_under_load_drop_and_mix_nothing(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    async with serving(settings) as client:
        publish(registry, other, "job-b")
        truth = {"base": await answer_of(client)}
        await client.activate("job-b", by="test")
        truth["job-b"] = await answer_of(client)
        assert truth["base"][1] != truth["job-b"][1]
        seen: list[tuple[str, str]] = []
        stop = asyncio.Event()

        async def keep_asking() -> None:
            while not stop.is_set():
                seen.append(await answer_of(client))

        askers = [asyncio.create_task(keep_asking()) for _ in range(8)]
        for version in ("base", "job-b", "base", "job-b"):
            before = len(seen)
            result = await client.activate(version, by="test")
            assert (result.version, result.changed) == (version, True)
            async with asyncio.timeout(20):
                while len(seen) < before + 12:
                    await asyncio.sleep(0.005)
        stop.set()
        await asyncio.gather(*askers)
    assert {version for version, _ in seen} == {"base", "job-b"}
    assert [answer for answer in seen if answer != truth[answer[0]]] == []


async def test_swap_is_idempotent_and_concurrent_swaps_are_serialised(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    async with serving(settings) as client:
        publish(registry, other, "job-b")
        first = await client.activate("job-b", by="test")
        second = await client.activate("job-b", by="test")
        assert (first.changed, first.previous, second.changed) == (True, "base", False)
        await asyncio.gather(*(client.activate(v, by="test") for v in ("base", "job-b") * 3))
        found = await client.checkpoints()
        assert found.active == (await answer_of(client))[0]


async def test_rollback_returns_to_what_served_before(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    async with serving(settings) as client:
        with pytest.raises(UpstreamError, match="no version before base"):
            await client.rollback()
        publish(registry, other, "job-b")
        await client.activate("job-b", by="test")
        assert (await client.rollback()).version == "base"
        assert (await answer_of(client))[0] == "base"
        assert (await client.checkpoints()).active == "base"


async def test_an_unknown_version_is_not_found(settings: StudentSettings) -> None:
    async with serving(settings) as client:
        with pytest.raises(UpstreamError) as caught:
            await client.activate("job-none", by="test")
        assert caught.value.upstream_status == 404


def nan_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[sorted(weights)[0]].view(-1)[0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


async def refused(settings: StudentSettings, version: str, words: str) -> None:
    """The version is refused with ``words`` while the base goes on serving the same answers."""
    async with serving(settings) as client:
        before = await answer_of(client)
        with pytest.raises(UpstreamError, match=words) as caught:
            await client.activate(version, by="test")
        assert caught.value.upstream_status == 422
        assert await answer_of(client) == before == ("base", before[1])
        assert (await client.checkpoints()).active == "base"
        assert (await client.health()).ready


async def test_nan_weights_are_refused(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(other, tmp_path / "nan"))
    nan_weights(folder)
    publish(registry, folder, "job-nan")
    await refused(settings, "job-nan", "NaN")


async def test_another_architecture_is_refused(
    settings: StudentSettings, registry: CheckpointRegistry, tmp_path: Path
) -> None:
    wide = build_tiny_idefics3(tmp_path / "wide", size=Size(128, 1, 2, 128, 64, 1, 1, 128))
    publish(registry, wide, "job-wide")
    await refused(settings, "job-wide", "another shape")


async def test_a_wrong_smoke_answer_is_refused(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    smoke = SmokeAnswer(question=QUESTION, answer="never this", image_png_base64=base64.b64encode(png()).decode())
    publish(registry, other, "job-smoke", smoke)
    await refused(settings, "job-smoke", "never this")


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed", "pickle"])
async def test_damaged_files_are_refused(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path, damage: str
) -> None:
    publish(registry, other, "job-bad")
    folder = registry.local("job-bad")
    weights = folder / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "changed":
        data = bytearray(weights.read_bytes())
        data[-10] ^= 0xFF
        weights.write_bytes(data)
    else:
        (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    await refused(settings, "job-bad", "model.safetensors|pytorch_model.bin")


async def test_a_bad_active_version_falls_back_at_start(
    settings: StudentSettings, registry: CheckpointRegistry, base: Path, other: Path
) -> None:
    registry.register_base(base)
    publish(registry, other, "job-bad")
    registry.set_active("job-bad", "test")
    (registry.local("job-bad") / "model.safetensors").write_bytes(b"rubbish")
    async with serving(settings) as client:
        assert (await answer_of(client))[0] == "base"
        health = await client.health()
        assert health.ready
        assert "job-bad cannot serve" in health.reason


async def test_another_replicas_promotion_is_followed(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    often = settings.model_copy(update={"student_follow_every": timedelta(milliseconds=50)})
    async with serving(often) as client:
        publish(registry, other, "job-b")
        registry.set_active("job-b", "another replica")
        async with asyncio.timeout(20):
            while (await answer_of(client))[0] != "job-b":
                await asyncio.sleep(0.02)


async def recognised(http: httpx.AsyncClient) -> tuple[float, float]:
    """(hits, misses) of image features since the start."""
    lines = dict(line.rsplit(" ", 1) for line in (await http.get("/metrics")).text.splitlines() if line[0] != "#")
    hits, misses = (lines[f'mpa_student_image_features_total{{result="{result}"}}'] for result in ("hit", "miss"))
    return float(hits), float(misses)


async def test_metrics_say_how_often_image_features_were_reused(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    """Over swaps too, after which every image is new."""
    publish(registry, other, "job-b")
    async with serving(settings) as client, httpx.AsyncClient(base_url=client.base_url) as http:
        assert await recognised(http) == (0, 0)
        for seed in (60, 60, 61):
            await answer_of(client, seed)
        assert await recognised(http) == (1, 2)
        await client.activate("job-b", by="test")
        for seed in (60, 60):
            await answer_of(client, seed)
        assert await recognised(http) == (2, 3)


async def test_metrics_and_errors_are_there(settings: StudentSettings) -> None:
    async with serving(settings) as client, httpx.AsyncClient(base_url=client.base_url) as http:
        await answer_of(client)
        assert "mpa_student_http_requests_total" in (await http.get("/metrics")).text
        response = await http.put("/v1/checkpoints/active", json={"version": "../../etc"})
        assert response.headers["content-type"] == "application/problem+json"
        assert "version" in json.loads(response.text)["detail"]
