"""Scoring, comparing and reading back what a run kept."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.evaluation import compare, read_predictions, score, submission
from services.cli.main import app
from shared.errors import InvalidInput
from shared.vqa.benchmarks import BenchmarkItem

ITEMS = [
    BenchmarkItem("1", Path("a.png"), "q", ("14",), "human"),
    BenchmarkItem("2", Path("b.png"), "q", ("red",), "augmented"),
]


def test_official_metric_beside_containment_by_type() -> None:
    found = score("chartqa", ITEMS, {"1": "13.5", "2": "it is red"})
    assert found["types"]["human"]["official"] == 1.0 and found["types"]["human"]["containment"] == 0.0
    assert found["types"]["augmented"]["official"] == 0.0 and found["types"]["augmented"]["containment"] == 1.0
    assert found["overall"]["official"] == 0.5


def test_compare_refuses_other_questions() -> None:
    worse, better = score("chartqa", ITEMS, {"1": "1", "2": "x"}), score("chartqa", ITEMS, {"1": "14", "2": "red"})
    assert compare(worse, better)["difference"] == 1.0
    with pytest.raises(InvalidInput, match="same questions"):
        compare(worse, score("chartqa", ITEMS[:1], {"1": "14"}))


def test_a_cut_off_line_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"id": "1", "prediction": "14"}\n{"id": "2", "pre', encoding="utf-8")
    assert read_predictions(path) == {"1": "14"}


def test_submission_has_numeric_ids() -> None:
    assert submission({"1": "a", "2": "b"}, ITEMS)[0] == {"question_id": 1, "answer": "a"}


class _Endpoint(BaseHTTPRequestHandler):
    asked = 0
    fail_after: int | None = None

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        kind = type(self)
        broken = kind.fail_after is not None and kind.asked >= kind.fail_after
        kind.asked += not broken
        message = {"role": "assistant", "content": "red"}
        reply = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
        body = json.dumps({"error": {"message": "bad"}} if broken else reply).encode()
        self.send_response(400 if broken else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_run_goes_on_where_it_ended(tmp_path: Path) -> None:
    class Endpoint(_Endpoint):
        fail_after = 1

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "a.png").write_bytes(b"x")
    lines = [{"image": "a.png", "question": str(n), "answers": ["red"]} for n in range(3)]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    command = ["evaluate", "jsonl", "--annotations", str(tmp_path / "b.jsonl"), "--images", str(tmp_path)]
    command += ["--output", str(tmp_path / "run"), "--endpoint", f"http://127.0.0.1:{server.server_port}"]
    try:
        assert CliRunner().invoke(app, [*command, "--concurrency", "1"]).exit_code == 2
        assert len(read_predictions(tmp_path / "run" / "predictions.jsonl")) == 1
        Endpoint.fail_after = None
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        assert Endpoint.asked == 3
        assert json.loads((tmp_path / "run" / "scores.json").read_text())["overall"]["official"] == 1.0
        other = CliRunner().invoke(app, [*command, "--model", "another"])
        assert other.exit_code == 2 and "another run" in " ".join(other.output.split())
    finally:
        server.shutdown()
        server.server_close()
