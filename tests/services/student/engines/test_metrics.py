"""Metrics of the engine, as /metrics shows them."""

from __future__ import annotations

from pathlib import Path

import httpx

from shared.checkpoints import CheckpointRegistry
from shared.settings import StudentSettings
from tests.services.student.small_replica import answer_of, publish, running


async def recognised(http: httpx.AsyncClient) -> tuple[float, float]:
    """(hits, misses) of image features since the start."""
    lines = dict(line.rsplit(" ", 1) for line in (await http.get("/metrics")).text.splitlines() if line[0] != "#")
    hits, misses = (lines[f'mpa_student_image_features_total{{result="{result}"}}'] for result in ("hit", "miss"))
    return float(hits), float(misses)


async def test_metrics_say_how_often_image_features_were_reused(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    """Over swaps too, after which every image is new."""
    publish(registry, other, "job-b")
    async with running(settings) as (client, _), httpx.AsyncClient(base_url=client.base_url) as http:
        assert await recognised(http) == (0, 0)
        for seed in (60, 60, 61):
            await answer_of(client, seed)
        assert await recognised(http) == (1, 2)
        await client.activate("job-b", by="test")
        for seed in (60, 60):
            await answer_of(client, seed)
        assert await recognised(http) == (2, 3)
