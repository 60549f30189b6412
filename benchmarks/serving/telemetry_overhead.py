"""Requests a second of the student with its telemetry on against off.

    python -m benchmarks.serving.telemetry_overhead

Four services take turns on the same questions: without traces and unread metrics (`off`); with the metrics read every
second; with those and one request in a hundred traced; and with every request traced. The spans go to a collector over
OTLP/HTTP on the same machine. Metrics are always counted, so what counting costs is measured by itself in the same run:
the time of all that is counted for one request, as a share of the time that `off` takes for one.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from prometheus_client import CollectorRegistry, Counter, Histogram

from benchmarks.serving.load import run_load
from benchmarks.serving.models import DEMO_STUDENT
from benchmarks.serving.report import report
from benchmarks.serving.student_process import StudentProcess, student
from benchmarks.serving.workload import bodies, questions

SETTINGS: dict[str, tuple[bool, float | None]] = {
    "off": (False, None),
    "metrics read": (True, None),
    "and 1 % traced": (True, 0.01),
    "and all traced": (True, 1.0),
}
COUNTED = 20_000


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    rates: dict[str, list[float]] = {name: [] for name in SETTINGS}
    names = list(SETTINGS)
    with ExitStack() as stack:
        sink = stack.enter_context(_collector())
        services = {}
        for number, (name, (_, share)) in enumerate(SETTINGS.items()):
            environment = {} if share is None else {"MPA_OTLP_ENDPOINT": sink.url, "MPA_TRACE_SHARE": str(share)}
            services[name] = stack.enter_context(student(DEMO_STUDENT, folder / str(number), environment))
        for seed in range(options.rounds + 1):  # the first round warms them
            asked = bodies(questions(options.requests, seed=seed), max_tokens=options.max_tokens)
            for name in names[seed % len(names) :] + names[: seed % len(names)]:
                with _read_every_second(services[name]) if SETTINGS[name][0] else ExitStack():
                    load = asyncio.run(run_load(services[name].port, asked, clients=options.clients))
                assert not load.failures, load.failures[0]
                if seed:
                    rates[name].append(load.per_second)
        rows = [_row(name, rates) for name in names]
    assert sink.received, "no spans arrived"
    share = _seconds_to_count() * statistics.median(rates["off"])
    return [*rows, {"telemetry": "counting alone", "req/s": 0.0, "ratio to off": 1 / (1 + share), "ratios": ""}]


def _row(name: str, rates: dict[str, list[float]]) -> dict[str, object]:
    ratios = [on / off for on, off in zip(rates[name], rates["off"], strict=True)]
    return {
        "telemetry": name,
        "req/s": statistics.median(rates[name]),
        "ratio to off": statistics.median(ratios),
        "ratios": " ".join(f"{ratio:.2f}" for ratio in ratios),
    }


def _seconds_to_count() -> float:
    """What the student counts for a request: HTTP and answer, each with a counter and a histogram."""
    registry = CollectorRegistry()
    counters = [Counter(f"c{n}", "", ("method", "route", "status"), registry=registry) for n in range(2)]
    histograms = [Histogram(f"h{n}", "", ("method", "route"), registry=registry) for n in range(2)]
    started = time.perf_counter()
    for _ in range(COUNTED):
        for counter in counters:
            counter.labels("POST", "/v1/chat/completions", "200").inc()
        for histogram in histograms:
            histogram.labels("POST", "/v1/chat/completions").observe(0.02)
    return (time.perf_counter() - started) / COUNTED


@contextmanager
def _read_every_second(service: StudentProcess) -> Iterator[None]:
    over = threading.Event()

    def read() -> None:
        while not over.wait(1.0):
            httpx.get(f"http://127.0.0.1:{service.port}/metrics", timeout=10).raise_for_status()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        over.set()
        reader.join()


class _Collector(ThreadingHTTPServer):
    """Takes what is sent and counts the bytes."""

    received = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Taking(BaseHTTPRequestHandler):
    server: _Collector

    def do_POST(self) -> None:
        self.server.received += len(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Print no access log."""


@contextmanager
def _collector() -> Iterator[_Collector]:
    server = _Collector(("127.0.0.1", 0), _Taking)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=12)
    parser.add_argument("--requests", type=int, default=192, help="of each service in a round")
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options, Path(folder))
    report("telemetry_overhead", rows, "ratio to off: 1 is no overhead")


if __name__ == "__main__":
    main()
