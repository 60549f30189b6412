"""The blocking face works from threads and raises what the store raises."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.errors import NotFound
from shared.state import BlockingJobStore
from tests.shared.state.conftest import stored


def test_calls_from_threads(redis_url: str) -> None:
    with BlockingJobStore(redis_url) as jobs:
        jobs.run(jobs.store.create(stored()))
        with ThreadPoolExecutor(4) as pool:
            leases = list(pool.map(lambda n: jobs.run(jobs.store.shards.acquire("job-1", 0, f"w{n}", 30, 5)), range(8)))
        assert sum(lease is not None for lease in leases) == 1
        with pytest.raises(NotFound):
            jobs.run(jobs.store.get("nothing"))
