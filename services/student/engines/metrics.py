"""The engine's batches and swaps on ``/metrics``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.telemetry.metrics import LONG_SECONDS

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
WAIT_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class EngineMetrics:
    """Implements `Watcher`. Safe to use from threads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        sizes = Histogram(
            "mpa_student_batch_answers", "Answers decoded together", registry=registry, buckets=BATCH_BUCKETS
        )
        lookups = Counter(
            "mpa_student_image_features",
            "Prompts with images, by whether their features were kept from before (hit) or computed (miss)",
            ("result",),
            registry=registry,
        )
        self._waits = Histogram(
            "mpa_student_queue_wait_seconds",
            "Time that requests waited for their batch to begin (on vLLM: see vllm:request_queue_time_seconds)",
            registry=registry,
            buckets=WAIT_SECONDS,
        )
        self._queued = Gauge("mpa_student_queued_requests", "Requests waiting for a batch", registry=registry)
        self._swaps = Histogram(
            "mpa_student_swap_seconds",
            "Time to change the checkpoint that serves: to load it, try it and switch",
            ("result",),
            registry=registry,
            buckets=LONG_SECONDS,
        )
        for result in ("swapped", "refused", "failed"):
            self._swaps.labels(result)
        self._sizes, self._hits, self._misses = sizes, lookups.labels("hit"), lookups.labels("miss")

    def batch(self, answers: int, waits: Sequence[float]) -> None:
        self._sizes.observe(answers)
        for wait in waits:
            self._waits.observe(wait)

    def watch(self, queued: Callable[[], int]) -> None:
        """Report the queue's length whenever the metrics are read."""
        self._queued.set_function(queued)

    def swap(self, result: str, seconds: float) -> None:
        """A swap ended."""
        self._swaps.labels(result).observe(seconds)

    def images(self, hits: int, misses: int) -> None:
        self._hits.inc(hits)
        self._misses.inc(misses)
