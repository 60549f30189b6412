"""A worker's metrics over real HTTP."""

from __future__ import annotations

import threading

import httpx
import pytest
from prometheus_client import Counter

from shared.telemetry.metrics import make_registry, serve_metrics


def test_a_worker_s_metrics_are_served_until_it_stops(free_port: int) -> None:
    registry = make_registry()
    Counter("mpa_test_things", "Things", registry=registry).inc(3)
    stop = serve_metrics(registry, "127.0.0.1", free_port)
    text = httpx.get(f"http://127.0.0.1:{free_port}/metrics", timeout=5).text
    assert "mpa_test_things_total 3.0" in text and "process_resident_memory_bytes" in text
    with pytest.raises(OSError, match="in use"):
        serve_metrics(registry, "127.0.0.1", free_port)
    stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{free_port}/metrics", timeout=5)


def test_without_a_port_nothing_is_served() -> None:
    before = threading.enumerate()
    stop = serve_metrics(make_registry(), "127.0.0.1", None)
    assert threading.enumerate() == before
    stop()
