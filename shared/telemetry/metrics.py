"""Prometheus metrics beyond the HTTP services' own: what every registry has, and the port of a worker."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from shared.telemetry.gpu_memory import GpuMemory

LONG_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Buckets for work rather than requests."""


def make_registry() -> CollectorRegistry:
    """A registry with the process's CPU time and memory, and the memory of the GPUs that it may use, if any.

    Workers run their tasks in threads of one process, so no multi-process mode is needed.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(GpuMemory())
    return registry


def serve_metrics(registry: CollectorRegistry, host: str, port: int | None) -> Callable[[], None]:
    """Serve ``/metrics`` from a thread of this process, unless ``port`` is None. Returns a function that stops it.

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
