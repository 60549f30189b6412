"""`mpa` as a user types it, against a small real HTTP server that speaks the job API's contracts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from typer.testing import CliRunner, Result

from services.cli.main import app
from shared.contracts import JobState, JobStatus, Outcome, Pair, PairPage, Split, StageCount, Verdict
from tests.quick_server import ServerThread

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def job(state: JobState, **changes: Any) -> JobStatus:
    base = JobStatus(
        id="j1", name="pile", state=state, created_at=NOW, updated_at=NOW, student="student", tasks=["chart"],
        images=StageCount(done=2, total=2), shards=StageCount(done=1, total=1), verdicts={Verdict.DISPARITY: 3},
    )  # fmt: skip
    return base.model_copy(update=changes)


class Scripted:
    """What the server was sent, and what it answers."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.states = [job(JobState.COLLECTING, version=1)]

    def build(self) -> FastAPI:
        api = FastAPI()

        @api.post("/v1/jobs", status_code=202)
        async def submit(request: Request) -> JSONResponse:
            body = await request.json()
            self.bodies.append(body)
            if "tasks" not in body:
                problem = {"type": "urn:x", "title": "t", "status": 422, "detail": "tasks: Field required."}
                return JSONResponse(problem, 422, media_type="application/problem+json")
            return JSONResponse(self.states[0].model_dump(mode="json"), 202)

        @api.get("/v1/jobs/{job_id}")
        async def status(job_id: str) -> JSONResponse:
            if job_id != "j1":
                problem = {"type": "urn:x", "title": "t", "status": 404, "detail": f"There is no job {job_id}."}
                return JSONResponse(problem, 404, media_type="application/problem+json")
            return JSONResponse(self.states.pop(0 if len(self.states) == 1 else 1).model_dump(mode="json"))

        @api.post("/v1/jobs/{job_id}/retry", status_code=202)
        async def retry(request: Request) -> JSONResponse:
            self.bodies.append(request.query_params.getlist("verdict"))
            return JSONResponse(self.states[0].model_dump(mode="json"), 202)

        @api.get("/v1/jobs/{job_id}/pairs")
        async def pairs(job_id: str, verdict: str, cursor: str | None = None) -> PairPage:
            number = 1 if cursor is None else 2
            pair = Pair(
                pair_id=f"p{number}", image=f"/pile/{number}.png", task="chart", split=Split.TRAIN,
                verdict=Verdict(verdict), question="how many bars?", teacher_answer="3", student_answer="4",
            )  # fmt: skip
            return PairPage(pairs=[pair], next_cursor="more" if cursor is None else None)

        return api


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def served(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    server = ServerThread(scripted.build())
    monkeypatch.setenv("MPA_PARITY_URL", server.url)
    yield scripted
    server.stop()


def mpa(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_submit_prints_the_id_and_sends_the_spec(served: Scripted, tmp_path: Path) -> None:
    spec = tmp_path / "job.yaml"
    spec.write_text("images: {kind: folder, path: /pile}\ntasks: [text]\n")
    result = mpa("submit", str(spec), "--task", "chart", "--name", "mine")
    assert (result.exit_code, result.stdout.strip()) == (0, "j1")
    assert served.bodies == [{"images": {"kind": "folder", "path": "/pile"}, "tasks": ["chart"], "name": "mine"}]


@pytest.mark.parametrize(
    ("given", "kind"),
    [("pile", "folder"), ("pile/*.png", "glob"), ("pile.jsonl", "manifest"), ("p.parquet", "manifest")],
)
def test_images_on_the_command_line_become_a_source(served: Scripted, given: str, kind: str) -> None:
    assert mpa("submit", "--images", given, "--task", "chart").exit_code == 0
    assert served.bodies[0]["images"][0]["kind"] == kind


def test_wait_ends_with_the_jobs_outcome(served: Scripted) -> None:
    done = job(JobState.SUCCEEDED, outcome=Outcome.PROMOTED, version=2)
    served.states += [done]
    result = mpa("submit", "--images", "pile", "--task", "chart", "--wait", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["outcome"] == "promoted"


@pytest.mark.parametrize(("state", "code"), [(JobState.FAILED, 5), (JobState.CANCELLED, 6)])
def test_wait_tells_failure_by_its_exit_code(served: Scripted, state: JobState, code: int) -> None:
    served.states += [job(state, last_error="the disk is full", version=2)]
    result = mpa("submit", "--images", "pile", "--task", "chart", "--wait")
    assert result.exit_code == code
    assert ("the disk is full" if state is JobState.FAILED else "was cancelled") in result.stderr


def test_a_refused_spec_is_one_clear_line(served: Scripted) -> None:
    result = mpa("submit", "--images", "pile")
    assert result.exit_code == 2
    assert "tasks: Field required" in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_unknown_job_is_not_found(served: Scripted) -> None:
    result = mpa("status", "nope")
    assert result.exit_code == 4
    assert "There is no job nope" in result.stderr


def test_an_unreachable_service_says_how_to_start_it(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPA_PARITY_URL", f"http://127.0.0.1:{free_port}")
    result = mpa("jobs")
    assert result.exit_code == 3
    assert "mpa up" in result.stderr


@pytest.mark.parametrize("text", ["- a list", "images: [", "just words"])
def test_a_bad_spec_file_names_the_file(tmp_path: Path, text: str) -> None:
    spec = tmp_path / "job.yaml"
    spec.write_text(text)
    result = mpa("submit", str(spec))
    assert result.exit_code == 2
    assert "job.yaml" in result.stderr and ("YAML" in result.stderr or "mapping" in result.stderr)


def test_no_images_at_all() -> None:
    result = mpa("submit", "--task", "chart")
    assert result.exit_code == 2 and "no images" in result.stderr


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ([], []),
        (["--verdict", "refused,unparsable"], ["refused", "unparsable"]),
        (["--verdict", "refused", "--verdict", " unparsable "], ["refused", "unparsable"]),
    ],
)
def test_a_retry_names_the_verdicts(served: Scripted, options: list[str], sent: list[str]) -> None:
    result = mpa("retry", "j1", *options)
    assert (result.exit_code, result.stdout.strip()) == (0, "j1 collecting")
    assert served.bodies == [sent]


@pytest.mark.parametrize("verdicts", ["nonsense", "refused,nonsense", ",", ""])
def test_a_retry_of_an_unknown_verdict_says_which_there_are(served: Scripted, verdicts: str) -> None:
    result = mpa("retry", "j1", "--verdict", verdicts)
    assert (result.exit_code, served.bodies) == (2, [])
    assert "refused" in result.stderr and "unreadable_image" in result.stderr


def test_export_reads_all_pages(served: Scripted, tmp_path: Path) -> None:
    output = tmp_path / "set.json"
    assert mpa("export", "j1", "--output", str(output)).exit_code == 0
    records = json.loads(output.read_text())
    assert [r["id"] for r in records] == ["p1", "p2"]
    assert records[0]["conversations"][0]["value"] == "<image>\nhow many bars?"
    parquet = tmp_path / "set.parquet"
    assert mpa("export", "j1", "-o", str(parquet), "--format", "parquet", "--json").exit_code == 0
    import pyarrow.parquet as pq

    assert pq.read_table(parquet).column("teacher_answer").to_pylist() == ["3", "3"]


def test_export_to_an_impossible_place_leaves_nothing(served: Scripted, tmp_path: Path) -> None:
    result = mpa("export", "j1", "--output", str(tmp_path / "none" / "set.json"))
    assert result.exit_code == 1
    assert "--output" in result.stderr


def test_endpoints_of_a_running_system_are_found(
    served: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    url = os.environ["MPA_PARITY_URL"]
    monkeypatch.delenv("MPA_PARITY_URL")
    (tmp_path / "endpoints.json").write_text(json.dumps({"parity": url}))
    monkeypatch.setenv("MPA_DATA_DIR", str(tmp_path))
    assert mpa("status", "j1").exit_code == 0
