"""What the reconciler and a worker count, on a real Redis and store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from services.parity.jobs.reconciler import Reconciler, ReconcilerRules
from services.parity.metrics import JobMetrics, WorkerMetrics
from services.parity.worker.shard import ShardWork
from shared.client import ParityClient
from shared.queue import COLLECT_QUEUE
from shared.state import JobStore
from tests.polling import async_wait_until

Spec = Callable[..., dict[str, Any]]


async def test_the_reconciler_counts_vanished_holders_once(
    jobs: JobStore, work: ShardWork, api: ParityClient, spec: Spec
) -> None:
    job = await api.submit(spec())
    # The API's own reconciler looks every 0.2 s; either of the two may be the one that sends the message again.
    lease = await jobs.shards.acquire(job.id, 0, "a worker", 0.2, 3)
    assert lease is not None
    registry = CollectorRegistry()
    rules = ReconcilerRules(0.1, 6, 3, 3)
    reconciler = Reconciler(jobs, work.store, work.celery, rules, JobMetrics(registry))

    async def sent_again() -> bool:
        await reconciler.round()
        return (await jobs.snapshot(job.id)).shard(0).queued

    await async_wait_until(sent_again, timeout=10.0)
    own = registry.get_sample_value("mpa_lease_expiries_total", {"work": "shard"}) or 0.0
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{api.base_url}/metrics")).text
    others = float(text.split('mpa_lease_expiries_total{work="shard"} ')[1].split()[0])
    assert own + others == 1.0


async def test_a_round_tells_jobs_shards_and_queues(
    jobs: JobStore, work: ShardWork, api: ParityClient, spec: Spec
) -> None:
    job = await api.submit(spec())
    registry = CollectorRegistry()
    reconciler = Reconciler(jobs, work.store, work.celery, ReconcilerRules(0.1, 6, 3, 3), JobMetrics(registry))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    async def all_queued() -> bool:
        await reconciler.round()
        return value("mpa_shards", state="queued") == 4.0 and value("mpa_queue_messages", queue=COLLECT_QUEUE) == 4.0

    await async_wait_until(all_queued, timeout=10.0)
    assert value("mpa_jobs", state="queued") == 1.0
    assert (value("mpa_queue_oldest_message_age_seconds", queue=COLLECT_QUEUE) or 0.0) > 0.0
    await api.cancel(job.id)

    async def over() -> bool:
        await reconciler.round()
        return value("mpa_jobs", state="queued") == 0.0

    await async_wait_until(over, timeout=10.0)
    assert value("mpa_shards", state="queued") == 0.0


async def test_a_worker_counts_verdicts_tokens_and_calls(
    jobs: JobStore, work: ShardWork, api: ParityClient, spec: Spec
) -> None:
    registry = CollectorRegistry()
    work = replace(work, metrics=WorkerMetrics(registry))
    job = await api.submit(spec())
    await work.run(job.id, 0)
    await work.run(job.id, 0)  # a doubled message counts nothing
    status = await api.job(job.id)
    shown = {
        sample.labels["verdict"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "mpa_worker_pairs_total"
    }
    assert shown == {str(name): count for name, count in status.verdicts.items() if count}
    assert registry.get_sample_value("mpa_worker_images_total") == 5.0
    tokens = status.teacher_tokens
    assert registry.get_sample_value("mpa_worker_teacher_tokens_total", {"kind": "prompt"}) == tokens.prompt
    assert registry.get_sample_value("mpa_worker_shards_total", {"result": "done"}) == 1.0
    assert registry.get_sample_value("mpa_worker_shard_seconds_count") == 1.0
