"""Prometheus metrics beyond the HTTP services' own: the port of a worker, and the memory of GPUs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

LONG_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Buckets for work rather than requests."""


def make_registry() -> CollectorRegistry:
    """A registry with the process's CPU time and memory, and the memory of its GPUs where it uses any.

    Workers run their tasks in threads of one process, so that no multi-process mode is needed.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(GpuMemory())
    return registry


def serve_metrics(registry: CollectorRegistry, host: str, port: int | None) -> Callable[[], None]:
    """Serve ``/metrics`` from a thread of this process; returns what ends it. ``port`` None: not at all.

    Raises OSError if the port is taken.
    """
    if port is None:
        return lambda: None
    server, thread = start_http_server(port, host, registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


class GpuMemory(Collector):
    """What torch holds of each GPU. Imports nothing: a process that has not loaded torch has nothing to tell."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        torch = sys.modules.get("torch")
        if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_initialized():
            return
        family = GaugeMetricFamily(
            "mpa_gpu_memory_bytes",
            "Memory of a GPU: in tensors, held by this process, free, and all",
            labels=["gpu", "kind"],
        )
        for gpu in range(torch.cuda.device_count()):
            for kind, value in _memory_of(torch, gpu).items():
                family.add_metric([str(gpu), kind], value)
        yield family


def _memory_of(torch: Any, gpu: int) -> dict[str, float]:
    free, total = torch.cuda.mem_get_info(gpu)
    return {
        "allocated": torch.cuda.memory_allocated(gpu),
        "reserved": torch.cuda.memory_reserved(gpu),
        "free": free,
        "total": total,
    }
