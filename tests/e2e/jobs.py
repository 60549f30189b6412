"""Submit a small job to a real system and wait for its end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from shared.client import ParityClient
from shared.contracts import JobState, JobStatus, Pair
from shared.errors import Unavailable

SECONDS = 420.0
IMAGES = 40
QUIET = {"held_out_fraction": 0.25, "promote": False}
"""A gate that leaves the serving checkpoint as it is."""


def small_job(pile: Path, **changes: Any) -> dict[str, Any]:
    """A job over the test pile: few steps, small shards, everything else as a user would have it."""
    spec: dict[str, Any] = {
        "name": "e2e",
        "images": {"kind": "manifest", "path": str(pile / "manifest.jsonl")},
        "tasks": ["chart", "text", "sttext", "know"],
        "annotator": {"questions_per_image": 2},
        "identifier": {"votes": 3, "threshold": 0.66},
        "train": {"max_steps": 12, "batch_size": 16, "learning_rate": 5e-4, "save_every_steps": 4},
        "gate": {"held_out_fraction": 0.25, "tolerance": 1.0, "min_questions": 1},
        "shard_size": 5,
        "seed": 5,
    }
    return {**spec, **changes}


async def finish(client: ParityClient, job: JobStatus) -> JobStatus:
    """The job's final status; fails with its last message when the time is over."""
    deadline = time.monotonic() + SECONDS
    while not job.state.is_final:
        assert time.monotonic() < deadline, f"still {job.state}: {job.waiting_for or job.last_error}"
        try:
            job = await client.job(job.id, wait=5, version=job.version)
        except Unavailable as error:  # a killed Redis: the API says when to come back
            await asyncio.sleep(error.retry_after or 1.0)
    assert job.state is JobState.SUCCEEDED, job.last_error or job.reason
    return job


async def all_pairs(client: ParityClient, job_id: str) -> list[Pair]:
    pairs: list[Pair] = []
    cursor: str | None = None
    while True:
        page = await client.pairs(job_id, cursor=cursor, limit=500)
        pairs += page.pairs
        cursor = page.next_cursor
        if cursor is None:
            return pairs
