"""`mpa evaluate` and `mpa compare` against an endpoint that answers as a test says."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from demo.world.export import write_benchmark
from demo.world.vocabulary import Split
from services.cli.benchmark.labelled import BenchmarkItem
from services.cli.benchmark.runner import (
    compare,
    read_predictions,
    score,
)
from services.cli.main import app
from services.parity.images.picture import prepare
from shared.images import ImageLimits
from tests.shared.images.picture_files import HEIC, encoded

ITEMS = [
    BenchmarkItem("1", Path("a.png"), "q", ("14",), "human"),
    BenchmarkItem("2", Path("b.png"), "q", ("red",), "augmented"),
]


class _Endpoint(BaseHTTPRequestHandler):
    asked = 0
    last: ClassVar[dict[str, Any]] = {}
    fail_after: int | None = None
    busy = 0
    versions: tuple[str, ...] = ()
    ends = "stop"

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Silent: what is on stderr is the command's."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = type(self)
        kind.last = json.loads(body)
        if kind.busy:
            kind.busy -= 1
            self.send_response(429)
            self.send_header("Retry-After", "0.01")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        broken = kind.fail_after is not None and kind.asked >= kind.fail_after
        kind.asked += not broken
        message = {"role": "assistant", "content": "red"}
        reply = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": kind.ends}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
        answer = json.dumps({"error": {"message": "bad"}} if broken else reply).encode()
        self.send_response(400 if broken else 200)
        if kind.versions:
            self.send_header("X-MPA-Checkpoint", kind.versions[kind.asked % len(kind.versions)])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[tuple[type[_Endpoint], list[str]]]:
    """An endpoint, and the command that asks it three questions whose answer is red."""

    class Endpoint(_Endpoint):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    (tmp_path / "a.png").write_bytes(encoded(RED))
    lines = [{"image": "a.png", "question": str(n), "answers": ["red"]} for n in range(3)]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    command = ["evaluate", "jsonl", "--annotations", str(tmp_path / "b.jsonl"), "--images", str(tmp_path)]
    command += ["--output", str(tmp_path / "run"), "--endpoint", f"http://127.0.0.1:{server.server_port}"]
    command += ["--task", "textvqa"]
    yield Endpoint, command
    server.shutdown()
    server.server_close()


RED, BLUE = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (20, 10), "blue")


def said(result: Result) -> str:
    return " ".join(result.output.split())


def test_a_run_goes_on_where_it_ended(tmp_path: Path, asked: tuple[type[_Endpoint], list[str]]) -> None:
    endpoint, command = asked
    endpoint.fail_after = 1
    assert CliRunner().invoke(app, [*command, "--concurrency", "1"]).exit_code == 2
    assert len(read_predictions(tmp_path / "run" / "predictions.jsonl")) == 1
    endpoint.fail_after = None
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert endpoint.asked == 3
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["overall"]["official"] == 1.0
    other = CliRunner().invoke(app, [*command, "--model", "another"])
    assert other.exit_code == 2 and "another run" in said(other)
    (tmp_path / "b.jsonl").write_text((tmp_path / "b.jsonl").read_text() + "\n")
    changed = CliRunner().invoke(app, command)
    assert changed.exit_code == 2 and "another run" in said(changed)


@pytest.mark.parametrize(
    "data",
    [
        HEIC,
        encoded(RED.convert("CMYK"), "JPEG"),
        encoded(RED, "TIFF", save_all=True, append_images=[BLUE]),
        encoded(RED, "GIF", save_all=True, append_images=[BLUE]),
        encoded(RED, "AVIF"),
        encoded(Image.new("RGBA", (9, 9), (255, 0, 0, 0))),
        encoded(RED, "JPEG"),
    ],
)
def test_images_are_sent_as_the_mining_sends_them(
    data: bytes, tmp_path: Path, asked: tuple[type[_Endpoint], list[str]]
) -> None:
    (tmp_path / "a.png").write_bytes(data)
    assert CliRunner().invoke(app, asked[1]).exit_code == 0
    (sent,) = [part for part in asked[0].last["messages"][0]["content"] if part["type"] == "image_url"]
    assert sent["image_url"]["url"] == prepare(data, ImageLimits()).url
    assert sent["image_url"]["url"].startswith(("data:image/png;", "data:image/jpeg;"))


def test_an_image_that_cannot_be_read_is_named_and_the_run_goes_on_with_a_new_one(
    tmp_path: Path, asked: tuple[type[_Endpoint], list[str]]
) -> None:
    whole = encoded(RED)
    (tmp_path / "a.png").write_bytes(whole[:40])
    failed = CliRunner().invoke(app, asked[1])
    assert failed.exit_code == 2 and "a.png cannot be read. The image is damaged or truncated" in said(failed)
    assert "Question b-" in said(failed) and asked[0].asked == 0
    (tmp_path / "a.png").write_bytes(whole)
    assert CliRunner().invoke(app, asked[1]).exit_code == 0


def test_a_busy_endpoint_is_asked_again(asked: tuple[type[_Endpoint], list[str]]) -> None:
    endpoint, command = asked
    endpoint.busy = 4
    assert CliRunner().invoke(app, command).exit_code == 0
    assert endpoint.asked == 3


def test_answers_of_two_checkpoints_are_not_one_result(asked: tuple[type[_Endpoint], list[str]]) -> None:
    endpoint, command = asked
    endpoint.versions = ("base", "job-1")
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "changed its checkpoint during the run (base, job-1)" in said(result)


def test_predictions_alone_need_no_answers(tmp_path: Path, asked: tuple[type[_Endpoint], list[str]]) -> None:
    _, command = asked
    lines = [{"image": "a.png", "question": str(n)} for n in range(2)]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2 and "has no answers" in said(refused)
    assert CliRunner().invoke(app, [*command, "--predict-only"]).exit_code == 0
    assert len(read_predictions(tmp_path / "run" / "predictions.jsonl")) == 2
    assert not (tmp_path / "run" / "scores.json").exists()


def scored(answers: dict[str, str], **more: object) -> dict[str, object]:
    prompts = {"all": {"prompt": "{question}", "max_tokens": 24, "source": "--prompt"}}
    return {**score("chartqa", ITEMS, answers), "of": "http://x", "model": "m", "prompts": prompts, **more}


def test_two_runs_are_compared(tmp_path: Path) -> None:
    for name, answers in (("before", {"1": "1", "2": "red"}), ("after", {"1": "14", "2": "red"})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scores.json").write_text(json.dumps(scored(answers)))
    runs = ["compare", str(tmp_path / "before"), str(tmp_path / "after")]
    shown = said(CliRunner().invoke(app, runs))
    assert "second - first = +50.0 points over 2 questions" in shown and "may be chance" in shown
    assert "Note" not in shown
    found = json.loads(CliRunner().invoke(app, [*runs, "--json"]).output)
    assert found["difference"] == 0.5 and found["notes"] == []
    nothing = CliRunner().invoke(app, ["compare", str(tmp_path), str(tmp_path / "after")])
    assert nothing.exit_code == 2 and "scores cannot be read" in said(nothing)


def test_a_comparison_says_that_the_prompts_or_the_files_differ() -> None:
    first = scored({"1": "1", "2": "red"}, annotations={"a": "1"})
    longer = {"all": {"prompt": "{question} Briefly.", "max_tokens": 24, "source": "--prompt"}}
    notes = compare(first, scored({"1": "14", "2": "red"}, annotations={"a": "2"}, prompts=longer))["notes"]
    assert "different prompts" in notes[0] and "{question} Briefly." in notes[0]
    assert "annotation files of the two runs differ" in notes[1]


def test_the_result_is_a_table_with_the_prompt_or_json(asked: tuple[type[_Endpoint], list[str]]) -> None:
    endpoint, command = asked
    endpoint.ends = "length"
    shown = said(CliRunner().invoke(app, command))
    assert "all questions 3 100.0" in shown and "exact match" in shown
    assert "single word or a short phrase" in shown and "the built-in task profiles" in shown
    assert "the token limit cut off 3 of 3 answers" in shown
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert found["overall"]["official"] == 1.0 and found["cut_off"] == 3 and "by_question" not in found


@pytest.mark.parametrize("dead", ["refuses", "is silent"])
def test_a_dead_endpoint_is_said_at_once(dead: str, tmp_path: Path, asked: tuple[type[_Endpoint], list[str]]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if dead == "is silent":
            silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        result = CliRunner().invoke(app, [*asked[1], "--endpoint", url])
        # Not a measure of speed: asking as patiently as in a run would take over a minute.
        assert time.monotonic() - started < 20
    assert result.exit_code == 3
    assert url in said(result) and "Is the endpoint running? Check --endpoint" in said(result)
    assert not (tmp_path / "run").exists()


def test_a_question_that_the_endpoint_refuses_is_named(asked: tuple[type[_Endpoint], list[str]]) -> None:
    endpoint, command = asked
    endpoint.fail_after = 0
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and "Question b-" in said(result) and "a.png" in said(result)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--checkpoint", "."], "not both"),
        (["--prompt", "what?"], "must contain {question}"),
    ],
)
def test_options_that_make_no_sense(asked: tuple[type[_Endpoint], list[str]], more: list[str], words: str) -> None:
    result = CliRunner().invoke(app, [*asked[1], *more])
    assert result.exit_code == 2 and words in said(result)


@pytest.mark.slow
def test_a_bare_checkpoint_is_served_for_its_evaluation(tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    write_benchmark(folder, 8, 1, Split.DEV, 1)
    command = ["evaluate", "jsonl", "--annotations", str(folder / "benchmark.jsonl"), "--images", str(folder)]
    command += ["--output", str(tmp_path / "run"), "--tasks-file", "demo/tasks.yaml", "--json"]
    done = CliRunner().invoke(app, [*command, "--checkpoint", "demo/models/student"])
    assert done.exit_code == 0, done.output
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["overall"]["questions"] == 8
    assert 0 < scores["overall"]["official"] <= 1
    assert {one["prompt"] for one in scores["prompts"].values()} == {"{question}"}
    other = CliRunner().invoke(app, [*command, "--checkpoint", str(tmp_path)])
    assert other.exit_code == 2 and "is not a checkpoint" in said(other)
