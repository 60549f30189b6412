"""What a trainer worker shows on ``/metrics``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.contracts import TrainingProgress
from shared.telemetry.metrics import LONG_SECONDS

PHASE_SECONDS = (*LONG_SECONDS, 3600.0, 14400.0, 86400.0)


class TrainerMetrics:
    """Metrics of one worker, which trains one job at a time. Gauges keep the last values until the next training."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, what: str) -> Gauge:
            return Gauge(f"mpa_training_{name}", what, registry=registry)

        self._running = gauge("running", "1 while a job is trained, evaluated or promoted")
        self._step = gauge("step", "Steps done")
        self._steps = gauge("steps", "Steps to do")
        self._loss = gauge("loss", "Loss of the last step")
        self._rate = gauge("samples_per_second", "Samples trained on per second, over the last steps")
        self._memory = gauge("memory_bytes", "Most bytes that a training process took: of its GPU if it uses one")
        self._norm = gauge("gradient_norm", "Norm of the gradient before clipping")
        self._phases = Histogram(
            "mpa_training_phase_seconds",
            "Time of a phase: train, evaluate or promote, by whether it succeeded",
            ["phase", "result"],
            buckets=PHASE_SECONDS,
            registry=registry,
        )
        self._ended = Counter(
            "mpa_trainings", "Trainings by how they ended in this worker", ["result"], registry=registry
        )
        for result in ("done", "failed", "lease_lost", "given_back"):
            self._ended.labels(result)

    @contextmanager
    def job(self) -> Iterator[None]:
        """Use while the worker works on a job."""
        self._running.set(1)
        try:
            yield
        finally:
            self._running.set(0)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the time of the block; it failed if an exception leaves it."""
        result, started = "failed", time.monotonic()
        try:
            yield
            result = "done"
        finally:
            self._phases.labels(name, result).observe(time.monotonic() - started)

    def ended(self, result: str) -> None:
        self._ended.labels(result).inc()

    def progress(self, now: TrainingProgress) -> None:
        """The last step's values."""
        self._step.set(now.step)
        self._steps.set(now.steps)
        for gauge, value in (
            (self._loss, now.loss),
            (self._rate, now.samples_per_second),
            (self._memory, now.memory_bytes),
            (self._norm, now.gradient_norm),
        ):
            if value is not None:
                gauge.set(value)
