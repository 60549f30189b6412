"""What is recorded of traces, what is told to others, and that only the API is loaded while they are off."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.trace import SpanKind

from shared.errors import Unavailable
from shared.settings import CommonSettings, HttpSettings
from shared.telemetry import JsonFormatter, log_fields
from shared.telemetry.tracing import STANDARD_VARIABLES, Traces, open_traces, span, trace_headers, trace_id, unrecorded
from tests.collector import Collector, running_collector
from tests.shared.http.small_app import client_of, make_app

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


def traces_to(collector: Collector, share: float = 1.0) -> Traces:
    made = open_traces("test", CommonSettings(otlp_endpoint=collector.url, trace_share=share))
    assert made is not None
    return made


def test_spans_below_each_other_arrive_and_failures_are_marked(collector: Collector) -> None:
    traces = traces_to(collector)
    told = {}

    def work() -> None:
        with traces.root("first", SpanKind.CONSUMER, attributes={"mpa.shard": 3}):
            with span("good", {"mpa.image": 1}):
                told.update(trace_headers(), id=str(trace_id()))
            with span("bad"):
                raise Unavailable("the teacher is away")

    with pytest.raises(Unavailable):
        work()
    traces.close()
    (first,), (good,), (bad,) = (collector.named(name) for name in ("first", "good", "bad"))
    assert (first.service, first.parent, first.attributes["mpa.shard"]) == ("mpa-test", "", 3)
    assert good.parent == bad.parent == first.id
    assert (first.failed, good.failed, bad.failed) == (True, False, True)
    assert told["traceparent"].startswith(f"00-{good.trace}-{good.id}-0") and told["id"] == good.trace


@pytest.mark.parametrize(("flags", "recorded"), [("01", 1), ("00", 0)])
def test_the_callers_decision_is_kept(collector: Collector, flags: str, recorded: int) -> None:
    traces = traces_to(collector, share=1.0 - recorded)
    with traces.root("work", SpanKind.SERVER, PARENT.format(flags=flags)), span("inside"):
        assert trace_headers()["traceparent"].startswith(PARENT[:35])
        assert (trace_id() is not None) == bool(recorded)
    traces.close()
    assert len(collector.named("work")) == len(collector.named("inside")) == recorded


@pytest.mark.parametrize("nonsense", ["", "00-zz-1-01", "x" * 1000])
def test_a_header_that_is_none_begins_a_trace(collector: Collector, nonsense: str) -> None:
    traces = traces_to(collector)
    with traces.root("work", SpanKind.SERVER, nonsense):
        pass
    traces.close()
    assert [one.parent for one in collector.named("work")] == [""]


def test_what_must_be_traced_is_whatever_the_share(collector: Collector) -> None:
    traces = traces_to(collector, share=0.0)
    for always in (True, False):
        with traces.root("work", SpanKind.SERVER, always=always):
            pass
    traces.close()
    assert len(collector.named("work")) == 1


def test_what_is_unrecorded_says_so_to_others(collector: Collector) -> None:
    traces = traces_to(collector)
    with traces.root("work", SpanKind.CONSUMER), unrecorded(), span("quiet") as quiet:
        assert not quiet.is_recording() and trace_headers()["traceparent"].endswith("-00") and trace_id() is None
    traces.close()
    assert not collector.named("quiet")


def test_a_collector_that_is_away_delays_the_end_by_a_little_only(
    free_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("shared.telemetry.tracing.FLUSH_SECONDS", 0.2)
    traces = open_traces("test", CommonSettings(otlp_endpoint=f"http://127.0.0.1:{free_port}", trace_share=1.0))
    assert traces is not None
    for _ in range(1000):  # two batches: OpenTelemetry alone would try for ten seconds each
        with traces.root("work", SpanKind.SERVER):
            assert trace_id() is not None
    closing = threading.Thread(target=traces.close)
    closing.start()
    closing.join(5)
    assert not closing.is_alive()
    assert "spans of this process are lost" in caplog.text
    assert not [thread for thread in threading.enumerate() if thread.name == "last-spans"], "nothing tries on"


def test_the_standard_variable_turns_traces_on(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in STANDARD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert open_traces("test", CommonSettings()) is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    traces = open_traces("test", CommonSettings(trace_share=1.0))
    assert traces is not None
    with traces.root("work", SpanKind.SERVER):
        pass
    traces.close()
    assert len(collector.named("work")) == 1


def test_while_off_neither_the_sdk_nor_an_exporter_is_loaded() -> None:
    code = (
        "import sys; from shared.http import create_app; from shared.settings import HttpSettings;"
        "from shared.telemetry.tracing import span, trace_headers, unrecorded;"
        "create_app('test', HttpSettings(), lifespan=None, ready=None);"
        "\nwith span('x'), unrecorded(): assert trace_headers() == {}\n"
        "assert not [name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_a_request_s_span_is_named_by_its_route(collector: Collector) -> None:
    app = make_app(HttpSettings(otlp_endpoint=collector.url, trace_share=1.0))
    async with client_of(app) as client, app.router.lifespan_context(app):
        await client.post("/v1/echo", json={"count": 1}, headers={"traceparent": PARENT.format(flags="01")})
        await client.get("/v1/nowhere")
        await client.get("/healthz")
    assert {(one.name, one.attributes["http.response.status_code"]) for one in collector.spans} == {
        ("POST /v1/echo", 200),
        ("GET none", 404),
    }
    assert collector.named("POST /v1/echo")[0].trace == PARENT[3:35]


def test_log_lines_carry_the_ids_of_where_they_are_logged(collector: Collector) -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "hello", (), None)
    traces = traces_to(collector)
    with traces.root("work", SpanKind.CONSUMER), log_fields(job_id="j1", shard=2):
        entry = json.loads(JsonFormatter("test").format(record))
        record.shard = 7
        named = json.loads(JsonFormatter("test").format(record))
    traces.close()
    assert (entry["job_id"], entry["shard"], entry["trace_id"]) == ("j1", 2, collector.named("work")[0].trace)
    assert named["shard"] == 7, "what the line itself names wins"
    del record.shard
    assert not {"job_id", "shard", "trace_id"} & set(json.loads(JsonFormatter("test").format(record)))
