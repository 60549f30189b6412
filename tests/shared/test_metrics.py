"""A worker's metrics over real HTTP."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import httpx
import pytest
from prometheus_client import Counter

from shared.metrics import GpuMemory, make_registry, serve_metrics


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
    serve_metrics(make_registry(), "127.0.0.1", None)()


def test_a_process_without_a_gpu_says_nothing_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not list(GpuMemory().collect()) or "torch" in sys.modules
    monkeypatch.setitem(sys.modules, "torch", None)
    assert list(GpuMemory().collect()) == []


def test_memory_is_told_by_gpu_and_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is at hand here: torch's part is scripted, with the functions of its documentation."""
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: 2,
        mem_get_info=lambda gpu: (10 * (gpu + 1), 80),
        memory_allocated=lambda gpu: 3,
        memory_reserved=lambda gpu: 5,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    (family,) = GpuMemory().collect()
    told = {(sample.labels["gpu"], sample.labels["kind"]): sample.value for sample in family.samples}
    assert (told["1", "free"], told["0", "total"], told["0", "allocated"], len(told)) == (20, 80, 3, 8)
