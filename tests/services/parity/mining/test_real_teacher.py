"""Shards collected from the demo's teacher behind the real service and vLLM: what its cache, grammar and drain do."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from demo.world.generator import pile
from services.parity.endpoints.endpoint import Endpoint
from services.parity.endpoints.limiter import Limiter
from services.parity.images.picture import Picture, prepare
from services.parity.mining.annotator import Annotator
from services.parity.mining.collector import Models, ShardCollector
from services.parity.mining.pairs import Draft, Judged
from shared.client import ChatClient
from shared.contracts import AnnotatorSpec, JobSpec, ManifestEntry, Verdict
from shared.images import ImageLimits
from shared.images.files import ImageFiles
from shared.sets import Row
from shared.settings import ParitySettings
from shared.store import Store
from shared.vqa.tasks import TaskProfile, load_profiles
from tests.polling import wait_until
from tests.quick_server import ServerThread
from tests.scripted_models import ScriptedModel
from tests.services.teacher.small import Service, chat

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[4]
READY_SECONDS = 600.0
SEEN_ALIKE = 64  # image tokens; the words before and after them and the last, partial block come on top
IMAGES, TASKS, SLOTS, VOTES = 10, 2, 2, 3
COLOURS = {"enum": ["red", "blue", "green"]}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {
        "MPA_TEACHER_MODEL": str(ROOT / "demo" / "models" / "teacher"),
        "MPA_TEACHER_READY_TIMEOUT": str(READY_SECONDS),
        "MPA_SHUTDOWN_GRACE": "60",
    }
    with Service(tmp_path_factory.mktemp("teacher") / "service.log", **settings) as running:
        running.wait_ready(READY_SECONDS)
        yield running


@pytest.fixture
async def teacher(service: Service) -> AsyncIterator[ChatClient]:
    async with ChatClient(service.url, model="teacher", timeout=120) as client:
        yield client


@pytest.fixture
async def wrong_student() -> AsyncIterator[ChatClient]:
    server = ServerThread(ScriptedModel(lambda body: ["never right"]).app())
    async with ChatClient(server.url, model="student", timeout=30) as client:
        yield client
    server.stop()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "pile"
    folder.mkdir()
    for number, picture in enumerate(pile(2 * IMAGES, 77, "train")):
        Image.fromarray(picture.pixels).save(folder / f"{number:02d}.png")
    return sorted(folder.iterdir())


def metric(service: Service, name: str) -> float:
    """Sum over all samples of a vLLM metric, as the teacher service shows it."""
    shown = httpx.get(f"{service.url}/metrics", timeout=10).text
    families = text_string_to_metric_families(shown)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def cached(service: Service) -> tuple[float, float]:
    """Prompt tokens looked up in the prefix cache, and those found."""
    return metric(service, "vllm:prefix_cache_queries_total"), metric(service, "vllm:prefix_cache_hits_total")


async def collect(models: Models, files: list[Path]) -> list[Row]:
    entries = [ManifestEntry(index=i, image=str(path), tasks=["chart", "know"]) for i, path in enumerate(files)]
    spec = JobSpec.model_validate(
        {
            "images": {"kind": "folder", "path": "/unused"},
            "tasks": ["chart"],
            "annotator": {"questions_per_image": SLOTS},
            "identifier": {"votes": VOTES, "threshold": 0.0},
        }
    )
    store = Store((files[0].parent.parent / "store").as_uri())
    collector = ShardCollector(
        "job",
        0,
        spec,
        entries,
        models=models,
        profiles=load_profiles(ROOT / "demo" / "tasks.yaml"),
        files=ImageFiles(store, roots=[files[0].parent], max_bytes=10**6, allow_urls=False),
        limits=ImageLimits.from_settings(ParitySettings()),
    )
    return await collector.run()


async def test_all_calls_about_an_image_but_the_first_find_it_in_the_prefix_cache(
    service: Service, teacher: ChatClient, wrong_student: ChatClient, files: list[Path]
) -> None:
    asked_before, found_before = cached(service)
    rows = await collect(Models(teacher, wrong_student, 8), files[:IMAGES])
    answered = [row for row in rows if row.question is not None and row.verdict is not Verdict.DUPLICATE]
    voted = [row for row in rows if row.votes]
    assert len(rows) == IMAGES * TASKS * SLOTS and voted
    # vLLM counts each choice as a request. Those of the first call about an image may miss, all others have to hit.
    later = IMAGES * (TASKS - 1) * SLOTS + len(answered) + VOTES * len(voted)
    wait_until(lambda: cached(service)[1] - found_before >= SEEN_ALIKE * later, 10)
    asked, found = cached(service)
    assert (found - found_before) / (asked - asked_before) > 0.5


async def test_images_that_are_new_are_not_in_the_prefix_cache(
    service: Service, teacher: ChatClient, files: list[Path]
) -> None:
    asked_before, found_before = cached(service)
    for path in files[IMAGES:]:
        response = await asyncio.to_thread(service.post, chat(image=picture(path).url, max_tokens=2))
        assert response.status_code == 200
    wait_until(lambda: cached(service)[0] - asked_before >= SEEN_ALIKE * IMAGES, 10)
    assert cached(service)[1] == found_before


@pytest.mark.parametrize("mode", ["two_step", "one_shot"])
async def test_a_teacher_that_cannot_write_json_does_when_it_is_held_to_a_schema(
    service: Service, teacher: ChatClient, files: list[Path], mode: str
) -> None:
    held = replace(
        load_profiles(ROOT / "demo" / "tasks.yaml")["chart"],
        parser="json",
        max_question_tokens=32,
        json_schema={
            "type": "object",
            "properties": {"question": {"enum": ["what is this?", "what colour is it?"]}, "answer": COLOURS},
            "required": ["question", "answer"],
            "additionalProperties": False,
        },
    )
    free = await propose(teacher, files, held, mode=mode, structured="off")
    assert {ended(draft) for draft in free} == {Verdict.UNPARSABLE}
    drafts = await propose(teacher, files, held, mode=mode, structured="auto")
    assert {ended(draft) for draft in drafts} <= {None, Verdict.DUPLICATE}
    assert {draft.question for draft in drafts} <= {"what is this?", "what colour is it?"}
    if mode == "one_shot":
        assert {draft.answer for draft in drafts} <= set(COLOURS["enum"])


def ended(draft: Draft | Judged) -> Verdict | None:
    return draft.verdict if isinstance(draft, Judged) else None


async def propose(teacher: ChatClient, files: list[Path], profile: TaskProfile, **spec: str) -> list[Draft | Judged]:
    upstream = Endpoint("teacher", teacher, Limiter("teacher", 8), asyncio.Event())
    annotator = Annotator(upstream, AnnotatorSpec.model_validate({"questions_per_image": 2, **spec}), seed=4)
    found = await asyncio.gather(*(annotator.propose(picture(path), profile) for path in files[:4]))
    return [draft for drafts in found for draft in drafts]


def test_json_is_written_without_spaces(service: Service) -> None:
    schema = {"type": "object", "properties": {"colour": COLOURS}, "required": ["colour"]}
    form = {"type": "json_schema", "json_schema": {"name": "colour", "schema": schema}}
    reply = service.post(chat(temperature=0, max_tokens=40, response_format=form), timeout=120).json()
    text = reply["choices"][0]["message"]["content"]
    assert text == json.dumps(json.loads(text), separators=(",", ":"))


def test_sigterm_lets_vllm_finish_what_it_has_begun(service: Service) -> None:
    body = chat(max_tokens=400, temperature=0, response_format={"type": "json_schema", "json_schema": ENDLESS})
    statuses: list[int] = []
    lines: list[str] = []

    def stream() -> None:
        url = f"{service.url}/v1/chat/completions"
        with httpx.stream("POST", url, json={**body, "stream": True}, timeout=120) as response:
            lines.extend(line for line in response.iter_lines() if line)

    asking = [threading.Thread(target=lambda: statuses.append(service.post(body, 120).status_code)) for _ in range(5)]
    for thread in (asking := [*asking, threading.Thread(target=stream)]):
        thread.start()
    wait_until(lambda: metric(service, "vllm:num_requests_running") >= 6, 60)
    service.process.send_signal(signal.SIGTERM)
    for thread in asking:
        thread.join(120)
    assert statuses == [200] * 5
    assert lines[-1] == "data: [DONE]" and len(lines) > 190
    assert service.process.wait(60) in (0, -signal.SIGTERM)


ENDLESS = {"name": "long", "schema": {"type": "array", "items": {"enum": [1]}, "minItems": 190, "maxItems": 190}}


def picture(path: Path) -> Picture:
    return prepare(path.read_bytes(), ImageLimits.from_settings(ParitySettings()))
