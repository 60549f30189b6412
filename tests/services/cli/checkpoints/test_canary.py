"""`mpa rollout` and `mpa canary` against a small real HTTP server that speaks the student's contracts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from typer.testing import CliRunner, Result

from services.cli.main import app
from shared.contracts import (
    ActivePointer,
    Canary,
    CanaryDecision,
    CanaryReport,
    CanaryRequest,
    CanaryState,
    ReplicaInfo,
    RolloutView,
    SwapResult,
    VersionStats,
)
from tests.quick_server import ServerThread

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def report(state: CanaryState = CanaryState.RUNNING) -> CanaryReport:
    record = Canary(
        id="canary-0", revision=0, student="student", version="job-1", baseline="base", share=0.1, compare=1.0,
        rule=None, state=state, started_by="me", started_at=NOW, changed_by="me", changed_at=NOW, reason="started",
    )  # fmt: skip
    return CanaryReport(
        canary=record,
        active=VersionStats(version="base", requests=900, latency_mean=0.1, latency_p95=0.2),
        candidate=VersionStats(version="job-1", requests=100, errors=2),
        compared=50,
        agreement=0.94,
        verdict="wait: no rule",
    )


class Scripted:
    """What the server was sent, and what it answers."""

    def __init__(self) -> None:
        self.requests: list[CanaryRequest] = []
        self.decisions: list[CanaryDecision] = []
        self.canary: CanaryReport | None = None
        self.complete = True

    def build(self) -> FastAPI:
        api = FastAPI()

        @api.get("/v1/rollout")
        async def rollout() -> RolloutView:
            pointer = ActivePointer(student="student", version="base", promoted_by="me", promoted_at=NOW, generation=0)
            replicas = [
                ReplicaInfo(id=name, version="base", problem=problem, started_at=NOW, seen_at=NOW)
                for name, problem in (("host-1", ""), ("host-2", "job-1 cannot serve: truncated"))
            ]
            return RolloutView(
                student="student", active=pointer, converged=False, replicas=replicas, complete=self.complete,
                canary=self.canary,
            )  # fmt: skip

        @api.put("/v1/rollout/canary")
        async def start(body: CanaryRequest) -> CanaryReport:
            self.requests.append(body)
            self.canary = report()
            return self.canary

        @api.post("/v1/rollout/canary/promote", response_model=None)
        async def promote(body: CanaryDecision) -> JSONResponse | SwapResult:
            if self.canary is None:
                problem = {"type": "urn:x", "title": "t", "status": 409, "detail": "No canary runs."}
                return JSONResponse(problem, 409, media_type="application/problem+json")
            self.decisions.append(body)
            return SwapResult(version="job-1", previous="base", changed=True, seconds=0.5)

        @api.post("/v1/rollout/canary/abort")
        async def abort(body: CanaryDecision) -> CanaryReport:
            self.decisions.append(body)
            return report(CanaryState.ABORTED)

        return api


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    scripted = Scripted()
    server = ServerThread(scripted.build())
    monkeypatch.setenv("MPA_STUDENT_URL", server.url)
    yield scripted
    server.stop()


def mpa(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_the_rollout_shows_every_replica_and_what_is_wrong(served: Scripted) -> None:
    served.complete = False
    result = mpa("rollout")
    assert result.exit_code == 0, result.stderr
    for words in ("host-1", "host-2", "converging", "job-1 cannot serve: truncated", "other replicas are not shown"):
        assert words in result.stdout
    assert json.loads(mpa("rollout", "--json").stdout)["active"]["version"] == "base"


def test_a_canary_from_start_to_end(served: Scripted) -> None:
    result = mpa("canary", "start", "job-1", "--share", "0.1", "--min-agreement", "0.9", "--promote")
    assert result.exit_code == 0, result.stderr
    sent = served.requests[0]
    assert (sent.version, sent.share, sent.by.startswith("cli:")) == ("job-1", 0.1, True)
    assert sent.rule is not None
    assert (sent.rule.min_agreement, sent.rule.promote, sent.rule.min_requests) == (0.9, True, 200)
    shown = mpa("canary", "status").stdout
    for words in ("job-1 alongside base", "share 10.0%", "running", "agreement 94.0% of 50", "rule: wait", "200 ms"):
        assert words in shown
    assert mpa("canary", "promote", "--reason", "looks good").stdout.strip() == "base → job-1 in 0.50 s"
    assert "aborted" in mpa("canary", "abort").stdout
    assert [d.reason for d in served.decisions] == ["looks good", "by call"]


def test_no_rule_is_sent_where_none_is_wanted(served: Scripted) -> None:
    assert mpa("canary", "start", "job-1", "--no-rule").exit_code == 0
    assert served.requests[0].rule is None


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["status"], 4, "no canary yet"),
        (["promote"], 2, "No canary runs"),
        (["start", "job-1", "--no-rule", "--promote"], 2, "needs the rule"),
        (["start", "job-1", "--share", "0"], 2, "share"),
        (["start", "../etc"], 2, "version"),
    ],
)
def test_failures_are_one_line_and_a_code(served: Scripted, arguments: list[Any], code: int, words: str) -> None:
    result = mpa("canary", *arguments)
    assert (result.exit_code, words in result.stderr) == (code, True), result.stderr
    assert served.requests == []
