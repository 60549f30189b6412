"""What a trainer worker tells of its trainings."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from services.trainer.errors import TrainingDiverged
from services.trainer.metrics import TrainerMetrics
from shared.contracts import TrainingProgress


def test_progress_phases_and_ends_are_told() -> None:
    registry = CollectorRegistry()
    metrics = TrainerMetrics(registry)
    value = registry.get_sample_value
    with metrics.job(), metrics.phase("train"):
        metrics.progress(TrainingProgress(step=3, steps=10, loss=1.5, samples_per_second=20.0, memory_bytes=7))
        assert value("mpa_training_running") == 1.0
    with pytest.raises(TrainingDiverged), metrics.job(), metrics.phase("train"):
        raise TrainingDiverged("The loss became nan.")
    metrics.ended("failed")
    assert value("mpa_training_running") == 0.0
    assert [value(f"mpa_training_{name}") for name in ("step", "steps", "loss", "samples_per_second")] == [
        3,
        10,
        1.5,
        20,
    ]
    assert value("mpa_training_memory_bytes") == 7.0
    for result in ("done", "failed"):
        assert value("mpa_training_phase_seconds_count", {"phase": "train", "result": result}) == 1.0
    assert value("mpa_trainings_total", {"result": "failed"}) == 1.0
