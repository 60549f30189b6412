"""The job API over real HTTP: what it accepts, refuses, remembers and tells."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from typer.testing import CliRunner

from services.cli.main import app as mpa
from services.parity.app import make_app
from services.parity.jobs.rebuild import rebuild
from services.parity.worker.shard import ShardWork
from shared.client import ParityClient
from shared.contracts import JobState, Outcome, Verdict
from shared.errors import UpstreamError
from shared.settings import ParitySettings
from shared.state import JobStore
from shared.store import Store
from tests.embedded_redis import start_embedded_redis
from tests.polling import wait_until
from tests.quick_server import ServerThread
from tests.scripted_models import Body, ScriptedModel, Text, strong_student, text_of, wise_teacher
from tests.services.parity.conftest import png

Spec = Callable[..., dict[str, Any]]


async def collect(work: ShardWork, job_id: str, shards: int) -> None:
    for shard in range(shards):
        await work.run(job_id, shard)


async def test_a_job_is_durable_before_it_is_accepted(api: ParityClient, store: Store, spec: Spec) -> None:
    async with httpx.AsyncClient(base_url=api.base_url) as http:
        answer = await http.post("/v1/jobs", json=spec())
    assert answer.status_code == 202
    job_id = answer.json()["id"]
    assert answer.headers["Location"] == f"/v1/jobs/{job_id}"
    assert answer.json()["images"] == {"done": 0, "total": 20}
    stored = json.loads(store.read(f"jobs/{job_id}/spec.json"))
    assert (stored["images"], stored["shards"]) == (20, 4)
    assert len(store.read(f"jobs/{job_id}/manifest.jsonl").splitlines()) == 20


async def test_what_sources_leave_out_is_said_at_once_in_the_status_and_in_the_report(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, pile: Path
) -> None:
    (pile / ".git").mkdir()
    for name in (".git/x.png", "a.cr2", "b.CR2", "old.zip"):
        (pile / name).write_bytes(b"x")
    job = await api.submit(spec())
    assert job.images.total == 20
    assert [(one.reason, one.files, one.example) for one in job.left_out] == [
        ("not an image format that is read (.cr2)", 2, "a.cr2"),
        ("archive (.zip): unpack it", 1, "old.zip"),
        ("hidden or a system's own (.git)", 1, ".git/x.png"),
    ]
    assert (await api.job(job.id)).left_out == (await api.report(job.id)).status.left_out == job.left_out
    assert json.loads(store.read(f"jobs/{job.id}/spec.json"))["left_out"][0]["files"] == 2


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"tasks": ["chart", "nope"]}, 422, "'nope' unknown: the known ones are chart"),
        ({"student": "nobody"}, 422, "'nobody' is unknown: the known ones are student"),
        ({"images": {"kind": "folder", "path": "/etc"}}, 403, "outside the allowed image folders"),
        ({"images": {"kind": "glob", "pattern": "/etc/*.png"}}, 403, "outside the allowed image folders"),
        ({"images": {"kind": "upload", "upload_id": "nope"}}, 422, "POST /v1/uploads first"),
        ({"imagse": 1}, 422, "imagse: unknown field"),
        ({"annotator": {"questions_per_image": 0}}, 422, "annotator.questions_per_image"),
        ({"benchmark": "/etc/passwd"}, 403, "outside the allowed"),
        ({"tasks": []}, 422, "tasks"),
    ],
)
async def test_bad_specs_are_refused_with_what_to_do(
    api: ParityClient, spec: Spec, change: dict[str, Any], status: int, words: str
) -> None:
    async with httpx.AsyncClient(base_url=api.base_url) as http:
        answer = await http.post("/v1/jobs", json=spec(**change))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


async def test_an_empty_folder_is_refused(api: ParityClient, spec: Spec, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(UpstreamError, match="holds no images") as caught:
        await api.submit(spec(images={"kind": "folder", "path": str(tmp_path / "empty")}))
    assert caught.value.upstream_status == 422


async def test_the_same_key_gives_the_same_job(api: ParityClient, spec: Spec) -> None:
    first, second = await asyncio.gather(*(api.submit(spec(), idempotency_key="k") for _ in range(2)))
    again = await api.submit(spec(), idempotency_key="k")
    assert first.id == second.id == again.id
    assert (await api.submit(spec())).id != first.id
    with pytest.raises(UpstreamError, match="another spec: send a new key") as caught:
        await api.submit(spec(seed=4), idempotency_key="k")
    assert caught.value.upstream_status == 409


async def test_etags_and_long_polls(api: ParityClient, jobs: JobStore, spec: Spec) -> None:
    job = await api.submit(spec())
    async with httpx.AsyncClient(base_url=api.base_url, timeout=30) as http:
        path = f"/v1/jobs/{job.id}"
        etag = (await http.get(path)).headers["ETag"]
        settled = await http.get(path, params={"wait": 1}, headers={"If-None-Match": etag})
        while settled.status_code == 200:
            etag = settled.headers["ETag"]
            settled = await http.get(path, params={"wait": 1}, headers={"If-None-Match": etag})
        assert settled.status_code == 304
        assert not settled.content
        waiting = asyncio.create_task(http.get(path, params={"wait": 20}, headers={"If-None-Match": etag}))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        assert await jobs.shards.acquire(job.id, 0, "w", 30, 5) is not None
        async with asyncio.timeout(10):
            changed = await waiting
    assert changed.status_code == 200
    assert changed.json()["state"] == "collecting"
    assert changed.headers["ETag"] != etag


async def test_unknown_jobs_are_404(api: ParityClient) -> None:
    async with httpx.AsyncClient(base_url=api.base_url) as http:
        for path in ("", "/pairs", "/report", "/events"):
            answer = await http.get(f"/v1/jobs/none{path}")
            assert answer.status_code == 404
            assert "no job none" in answer.json()["detail"]


async def test_cancel_and_retry(api: ParityClient, work: ShardWork, spec: Spec) -> None:
    job = await api.submit(spec())
    await work.run(job.id, 0)
    assert (await api.cancel(job.id)).state is JobState.CANCELLED
    await work.run(job.id, 1)
    assert (await api.job(job.id)).shards.done == 1
    job = await api.retry(job.id)
    assert (job.state, job.shards.done) == (JobState.COLLECTING, 1)
    with pytest.raises(UpstreamError, match="only failed or cancelled"):
        await api.retry(job.id)
    await collect(work, job.id, 4)
    assert (await api.job(job.id)).state is JobState.TRAINING


async def test_events_tell_every_state_until_the_end(api: ParityClient, spec: Spec) -> None:
    job = await api.submit(spec())
    seen: list[JobState] = []

    async def follow() -> None:
        async for status in api.events(job.id):
            seen.append(status.state)

    following = asyncio.create_task(follow())
    async with asyncio.timeout(20):
        while not seen:
            await asyncio.sleep(0.01)
        await api.cancel(job.id)
        await following
    assert seen[0] is JobState.QUEUED
    assert seen[-1] is JobState.CANCELLED


async def test_jobs_are_listed_in_pages(api: ParityClient, spec: Spec) -> None:
    ids = [(await api.submit(spec())).id for _ in range(3)]
    first = await api.jobs(limit=2)
    second = await api.jobs(cursor=first.next_cursor, limit=2)
    assert {job.id for job in first.jobs + second.jobs} == set(ids)
    assert second.next_cursor is None


async def test_pairs_come_in_pages_by_verdict_and_task(api: ParityClient, work: ShardWork, spec: Spec) -> None:
    job = await api.submit(spec(tasks=["chart", "text"]))
    await collect(work, job.id, 4)
    found, cursor = [], None
    while True:
        page = await api.pairs(job.id, cursor=cursor, limit=7)
        found += page.pairs
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len(found) == len({pair.pair_id for pair in found}) == 20 * 2 * 2
    kept = await api.pairs(job.id, verdict="disparity", task="text", limit=1000)
    expected = [p for p in found if p.verdict is Verdict.DISPARITY and p.task == "text"]
    assert kept.pairs == expected
    assert expected
    with pytest.raises(UpstreamError, match="next_cursor"):
        await api.pairs(job.id, cursor="zzz")


def no_answers(body: Body) -> list[str]:
    """A teacher that asks well and answers nothing."""
    return wise_teacher(body) if text_of(body).startswith("ask") else ["Unanswerable."]


def one_question(body: Body) -> list[str]:
    """A teacher that asks the same question about every image, whatever the slot."""
    return ["what is number 1?"] * body["n"] if text_of(body).startswith("ask") else wise_teacher(body)


def no_questions(body: Body) -> list[str]:
    """A teacher that does not ask when it is told to."""
    return ["It is a picture."] * body["n"] if text_of(body).startswith("ask") else wise_teacher(body)


def moody(body: Body) -> list[str]:
    """A teacher that never answers the same twice."""
    said = wise_teacher(body)
    return said if text_of(body).startswith("ask") or body["temperature"] == 0 else ["1", "2", "3"]


@pytest.mark.parametrize(
    ("script", "questions", "code"),
    [
        (no_answers, 2, "mostly_refused"),
        (one_question, 4, "mostly_duplicate"),
        (no_questions, 2, "mostly_unparsable"),
        (moody, 2, "mostly_inconsistent"),
    ],
)
async def test_a_job_whose_pairs_were_mostly_unusable_warns_wherever_it_is_shown(
    api: ParityClient,
    work: ShardWork,
    spec: Spec,
    teacher: tuple[ScriptedModel, ServerThread],
    student: tuple[ScriptedModel, ServerThread],
    monkeypatch: pytest.MonkeyPatch,
    script: Callable[[Body], list[str]],
    questions: int,
    code: str,
) -> None:
    teacher[0].script, student[0].script = script, lambda _: ["5000"]
    job = await api.submit(spec(annotator={"questions_per_image": questions}))
    assert (await api.job(job.id)).warnings == []
    await collect(work, job.id, 4)
    shown = await api.job(job.id)
    warning = shown.warnings[0]
    count = max(shown.verdicts.values())
    assert (warning.code, shown.pairs) == (code, 20 * questions)
    assert warning.text.startswith(f"{count} of {20 * questions} pairs ")
    assert (await api.report(job.id)).status.warnings == (await api.jobs()).jobs[0].warnings == shown.warnings
    monkeypatch.setenv("MPA_PARITY_URL", api.base_url)
    told = await asyncio.to_thread(CliRunner().invoke, mpa, ["status", job.id])
    words = " ".join(told.output.split())
    assert f"warning: {warning.text} cause: {warning.cause} advice: {warning.advice}" in words
    if shown.state.is_final:
        assert "most pairs could not be checked" in (shown.reason or "")


async def test_what_cut_the_answers_off_is_counted_wherever_a_job_is_shown(
    api: ParityClient,
    work: ShardWork,
    store: Store,
    jobs: JobStore,
    spec: Spec,
    teacher: tuple[ScriptedModel, ServerThread],
    student: tuple[ScriptedModel, ServerThread],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wordy(body: Body) -> list[Text]:
        cut: Body = {"content": "No parking between 8 am", "finish_reason": "length"}
        return [*wise_teacher(body)] if text_of(body).startswith("ask") else [cut] * body.get("n", 1)

    teacher[0].script = wordy
    job = await api.submit(spec())
    await work.run(job.id, 0)
    assert list((await api.job(job.id)).causes) == ["answer_cut_off"]
    await collect(work, job.id, 4)
    shown = await api.job(job.id)
    assert shown.causes == {"answer_cut_off": shown.verdicts[Verdict.UNPARSABLE]}
    pairs = (await api.pairs(job.id, verdict="unparsable", limit=1000)).pairs
    assert {pair.cause for pair in pairs} == {"answer_cut_off"} and len(pairs) == shown.causes["answer_cut_off"]
    assert "max_answer_tokens" in shown.warnings[0].advice
    assert (await api.report(job.id)).status.causes == shown.causes
    assert [status.causes async for status in api.events(job.id)][-1] == shown.causes
    monkeypatch.setenv("MPA_PARITY_URL", api.base_url)
    told = await asyncio.to_thread(CliRunner().invoke, mpa, ["status", job.id])
    words = " ".join(told.output.split())
    assert f"causes: {len(pairs)} × the teacher's answer was cut off by its token limit" in words
    # A rebuilt record counts them from the set.
    await jobs._hash.redis.flushall()
    await rebuild(jobs, store, job.id)
    assert (await api.job(job.id)).causes == shown.causes


async def test_the_report_of_a_job_without_a_gap(
    api: ParityClient,
    work: ShardWork,
    store: Store,
    jobs: JobStore,
    spec: Spec,
    student: tuple[ScriptedModel, ServerThread],
) -> None:
    student[0].script = strong_student
    job = await api.submit(spec())
    await collect(work, job.id, 4)
    job = await api.job(job.id)
    assert (job.state, job.outcome) == (JobState.SUCCEEDED, Outcome.NO_GAP)
    assert "No disparity pair to train on" in (job.reason or "")
    report = await api.report(job.id)
    assert report.set_digest
    assert report.spec.seed == 3
    assert report.seconds["collecting"] > 0
    async with asyncio.timeout(15):
        while not store.exists(f"jobs/{job.id}/report.json") or await jobs.active():
            await asyncio.sleep(0.02)
    assert (await api.report(job.id)).set_digest == report.set_digest


async def test_uploads_become_a_source(api: ParityClient, work: ShardWork, spec: Spec, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../evil.png", png(1))
        archive.writestr("deep/two.png", png(2))
        archive.writestr("__MACOSX/two.png", b"junk")
        archive.writestr("readme.txt", b"junk")
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    receipt = await api.upload(tmp_path / "a.zip")
    assert (receipt.images, receipt.bytes) == (2, len(png(1)) + len(png(2)))
    job = await api.submit(spec(images={"kind": "upload", "upload_id": receipt.upload_id}))
    await work.run(job.id, 0)
    job = await api.job(job.id)
    assert (job.images.done, job.verdicts[Verdict.UNREADABLE_IMAGE]) == (2, 0)


async def test_tasks_are_listed(api: ParityClient) -> None:
    async with httpx.AsyncClient(base_url=api.base_url) as http:
        names = {task["name"] for task in (await http.get("/v1/tasks")).json()["tasks"]}
        assert {"chart", "text", "chartqa", "textvqa", "okvqa", "stvqa"} <= names
        assert (await http.get("/readyz")).json()["ready"] is True


def test_a_redis_that_is_away_is_a_503_that_says_to_retry(settings: ParitySettings, tmp_path: Path) -> None:
    redis = start_embedded_redis(tmp_path / "redis")
    server = ServerThread(make_app(settings.model_copy(update={"redis_url": redis.url})))
    try:
        redis.process.kill()
        redis.process.wait(10)
        response = httpx.get(f"{server.url}/v1/jobs", timeout=30)
        assert response.status_code == 503 and int(response.headers["Retry-After"]) >= 1
        assert response.headers["Content-Type"] == "application/problem+json"
        assert "Redis" in response.json()["detail"] and "Retry" in response.json()["detail"]
        redis = start_embedded_redis(tmp_path / "redis", port=redis.port)
        wait_until(lambda: httpx.get(f"{server.url}/v1/jobs", timeout=30).status_code == 200)
    finally:
        server.stop()
        redis.stop()


def test_a_redis_that_takes_no_writes_is_not_ready_and_takes_no_job(
    settings: ParitySettings, tmp_path: Path, spec: Spec, store: Store
) -> None:
    redis = start_embedded_redis(tmp_path / "redis")
    server = ServerThread(make_app(settings.model_copy(update={"redis_url": redis.url})))
    try:
        with Redis.from_url(redis.url) as admin, httpx.Client(base_url=server.url, timeout=30) as http:
            kept = http.post("/v1/jobs", json=spec()).json()["id"]
            for begin, end, words in (
                ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "Redis is full and takes no writes"),
                ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "Redis is a read-only replica"),
            ):
                admin.execute_command(*begin.split())
                ready = http.get("/readyz")
                assert (ready.status_code, ready.json()["ready"]) == (503, False)
                assert words in ready.json()["reason"]
                refused = http.post("/v1/jobs", json=spec())
                assert refused.status_code == 503 and int(refused.headers["Retry-After"]) >= 1
                assert refused.headers["Content-Type"] == "application/problem+json"
                assert "Redis is full, read-only or starting" in refused.json()["detail"]
                assert http.get(f"/v1/jobs/{kept}").status_code == 200
                assert store.list_dirs("jobs") == [kept]
                admin.execute_command(*end.split())
                wait_until(lambda: http.get("/readyz").status_code == 200)
            assert http.post("/v1/jobs", json=spec()).status_code == 202
    finally:
        server.stop()
        redis.stop()
