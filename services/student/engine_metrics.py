"""What the engine's batches say of themselves on ``/metrics``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)


class EngineMetrics:
    """Safe to use from threads."""

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
        self._sizes, self._hits, self._misses = sizes, lookups.labels("hit"), lookups.labels("miss")

    def batch(self, size: int) -> None:
        """A batch of ``size`` answers begins."""
        self._sizes.observe(size)

    def images(self, hits: int, misses: int) -> None:
        """Of a batch's prompts with images, this many were recognised."""
        self._hits.inc(hits)
        self._misses.inc(misses)
