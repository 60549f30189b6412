"""A benchmark is asked as production asks, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.cli.benchmark.answer_prompts import (
    PromptSource,
    built_in_prompts,
    card_prompts,
    choose_prompts,
    describe_prompts,
    file_prompts,
    given_prompt,
    profile_prompts,
    served_prompts,
)
from services.cli.benchmark.labelled import BenchmarkItem
from shared.contracts import (
    AnswerPrompt,
    CheckpointCard,
    CheckpointInfo,
    CheckpointList,
    TaskInfo,
    TaskList,
)
from shared.errors import InvalidInput
from shared.settings import ClientSettings

BARE = AnswerPrompt(task="signs", prompt="{question}", max_tokens=12)
CARD = CheckpointCard(
    version="job-1", student="student", created_at=datetime.now(UTC), digest="0", files=[], prompts=[BARE]
)


def item(number: int, task: str = "") -> BenchmarkItem:
    return BenchmarkItem(str(number), Path("a.png"), "What {now}?", ("x",), "all", task)


def source(name: str, *prompts: AnswerPrompt) -> PromptSource:
    return PromptSource(name, {one.task: one for one in prompts})


def test_the_surest_source_that_knows_the_task_wins() -> None:
    own = AnswerPrompt(task="chartqa", prompt="chart: {question}", max_tokens=5)
    chosen = choose_prompts("chartqa", [item(1)], [source("card", own), built_in_prompts()], task=None, max_tokens=None)
    assert chosen["1"].of("What {question} is it?") == "chart: What {question} is it?"
    assert chosen["1"].max_tokens == 5 and chosen["1"].source == "card"
    plain = choose_prompts("chartqa", [item(1)], [source("card"), built_in_prompts()], task=None, max_tokens=99)
    assert "from the chart" in plain["1"].prompt and plain["1"].max_tokens == 99


def test_rows_of_several_tasks_are_asked_in_their_own_way() -> None:
    more = AnswerPrompt(task="charts", prompt="In short: {question}", max_tokens=9)
    rows = [item(1, "signs"), item(2, "charts")]
    chosen = choose_prompts("jsonl", rows, [source("card", BARE, more)], task=None, max_tokens=None)
    assert [chosen[key].prompt for key in "12"] == ["{question}", "In short: {question}"]
    assert list(describe_prompts(rows, chosen)) == ["charts", "signs"]
    forced = choose_prompts("jsonl", rows, [source("card", BARE, more)], task="signs", max_tokens=None)
    assert list(describe_prompts(rows, forced)) == ["all"]


def test_tasks_that_are_asked_alike_leave_no_choice() -> None:
    twin = BARE.model_copy(update={"task": "boards"})
    sources = [source("card", BARE, twin), built_in_prompts()]
    chosen = choose_prompts("jsonl", [item(1)], sources, task=None, max_tokens=None)
    assert chosen["1"].prompt == "{question}" and chosen["1"].source == "card"


def test_without_a_profile_nothing_is_asked() -> None:
    for sources in (
        [built_in_prompts()],
        [source("card", BARE, AnswerPrompt(task="b", prompt="b {question}", max_tokens=1))],
    ):
        with pytest.raises(InvalidInput, match=r"No task profile 'jsonl' is known.*--task.*--tasks-file.*--prompt"):
            choose_prompts("jsonl", [item(1)], sources, task=None, max_tokens=None)
    with pytest.raises(InvalidInput, match=r"must contain \{question\}"):
        given_prompt("what?", None)


def test_a_file_and_a_card_say_how_to_ask(tmp_path: Path) -> None:
    assert file_prompts(Path("demo/tasks.yaml")).prompts["chart"].prompt == "{question}"
    assert card_prompts(tmp_path).prompts == {}
    (tmp_path / "mpa_card.json").write_text(CARD.model_dump_json())
    assert card_prompts(tmp_path) == source("the card of job-1", BARE)
    (tmp_path / "mpa_card.json").write_text("{")
    assert card_prompts(tmp_path).prompts == {}


@pytest.fixture
def service() -> Iterator[str]:
    """What our services answer: the student about its checkpoints, the parity service about its tasks."""
    plain, job = CheckpointInfo(version="base", url="", digest="", active=False), CARD
    aligned = CheckpointInfo(version=job.version, url="", digest="", active=True, prompts=job.prompts)
    task = TaskInfo(name="signs", metric="exact", answer_prompt="signs: {question}", max_answer_tokens=3)
    answers = {
        "/v1/checkpoints": CheckpointList(student="student", active="job-1", checkpoints=[plain, aligned]),
        "/v1/tasks": TaskList(tasks=[task, TaskInfo(name="of-an-older-release", metric="exact")]),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers[self.path].model_dump_json().encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


async def test_the_checkpoint_that_answers_says_how_to_ask(service: str) -> None:
    assert (await served_prompts(service, None, "student")) == source("the card of job-1", BARE)
    assert (await served_prompts(service, None, "student@base")).prompts == {}
    found = await profile_prompts(ClientSettings(parity_url=service))
    assert list(found.prompts) == ["signs"] and found.prompts["signs"].prompt == "signs: {question}"


async def test_an_endpoint_of_somebody_else_says_nothing(free_port: int) -> None:
    away = f"http://127.0.0.1:{free_port}"
    assert (await served_prompts(away, None, "gpt")).prompts == {}
    assert (await profile_prompts(ClientSettings(parity_url=away))).prompts == {}
