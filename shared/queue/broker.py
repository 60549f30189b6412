"""The Celery app and its messages: JSON only, acknowledged late, no results.

Messages are hints; the job record is the truth. Services send to each other by task name, so that they need not import
each other.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from celery import Celery, Task
from kombu.exceptions import ChannelError

from shared.compatibility import RELEASE, check_schema
from shared.queue.transport import use_freeing_transports
from shared.settings import CommonSettings
from shared.state.connection import broker_settings

SCHEMA_HEADER, RELEASE_HEADER = "mpa_schema", "mpa_release"
MESSAGE_SCHEMA = 1
"""Raised only when workers of earlier releases would misunderstand a message."""
COLLECT_TASK, COLLECT_QUEUE = "parity.collect_shard", "collect"
TRAIN_TASK, TRAIN_QUEUE = "trainer.train_job", "train"
# Work is leased and the reconciler sends it again, so a redelivery by the broker is only a last resort. It is late on
# purpose: a task that outlives the visibility timeout would be delivered again while it runs.
VISIBILITY_TIMEOUT = timedelta(hours=6)
RESTORE_EVERY_POLLS = 10
DAMAGED = "mpa:damaged:"
KEPT_FOR = timedelta(days=7)
SENT_HEADER = "mpa_sent_at"
TRACE_HEADER = "mpa_traceparent"


def make_celery(settings: CommonSettings, name: str = "mpa") -> Celery:
    """A Celery app on ``settings.redis_url``; the caller adds its tasks."""
    use_freeing_transports()
    broker = broker_settings(settings.redis_url)
    app = Celery(name, broker=broker["broker_url"], set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        event_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_publish_retry=True,
        task_publish_retry_policy={"max_retries": 10, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 2.0},
        task_routes={COLLECT_TASK: {"queue": COLLECT_QUEUE}, TRAIN_TASK: {"queue": TRAIN_QUEUE}},
        task_default_queue=COLLECT_QUEUE,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_use_ssl=broker["broker_use_ssl"],
        broker_transport_options={
            **broker["broker_transport_options"],
            "visibility_timeout": int(VISIBILITY_TIMEOUT.total_seconds()),
            "unacked_restore_interval": RESTORE_EVERY_POLLS,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
        },
        timezone="UTC",
        enable_utc=True,
    )
    return app


def enqueue_shard(app: Celery, job_id: str, shard: int, trace: str | None = None) -> None:
    """Ask a parity worker to collect a shard. Raises kombu's OperationalError if the broker stays unreachable."""
    app.send_task(COLLECT_TASK, args=[job_id, shard], queue=COLLECT_QUEUE, headers=_headers(trace))


def enqueue_training(app: Celery, job_id: str, trace: str | None = None) -> None:
    """Ask a trainer to train a job. Raises kombu's OperationalError if the broker stays unreachable."""
    app.send_task(TRAIN_TASK, args=[job_id], queue=TRAIN_QUEUE, headers=_headers(trace))


def check_message(headers: Mapping[str, Any] | None) -> None:
    """Raises NewerSchema for a message that a worker of this release would misunderstand.

    A message without a number has schema 1.
    """
    sent = headers or {}
    number = sent.get(SCHEMA_HEADER, 1)
    if isinstance(number, int):
        check_schema(number, f"The message from release {sent.get(RELEASE_HEADER, 'unknown')}")


def trace_of(task: Task) -> str | None:
    """The traceparent that the task's message carries."""
    found = getattr(task.request, TRACE_HEADER, None) or (task.request.headers or {}).get(TRACE_HEADER)
    return str(found) if found else None


def set_aside_damaged(app: Celery, queue: str) -> list[str]:
    """Rename the keys of a queue that hold something of the wrong type. Returns their names.

    Otherwise nobody could send or take a message again. The messages are lost, and the reconciler sends them again.
    """
    types = {queue: "list", f"_kombu.binding.{queue}": "set", "unacked": "hash", "unacked_index": "zset"}
    with app.connection_for_write() as connection:
        client = connection.default_channel.client
        found = {key: client.type(key).decode() for key in types}
        damaged = [key for key, kind in found.items() if kind not in (types[key], "none")]
        for key in damaged:
            client.rename(key, f"{DAMAGED}{key}")
            client.expire(f"{DAMAGED}{key}", KEPT_FOR)
    return damaged


def queue_depth(app: Celery, queue: str) -> int:
    """The number of messages that wait in a queue, without those that a worker has taken."""
    with app.connection_for_write() as connection:
        try:
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
        except ChannelError:
            return 0


def oldest_message_age(app: Celery, queue: str) -> float:
    """Seconds that the oldest message has waited; 0 for an empty queue.

    A message without the time when it was sent (from an older release, or from another program) counts as just sent.
    """
    with app.connection_for_write() as connection:
        raw = connection.default_channel.client.lindex(queue, -1)
    try:
        sent = float(json.loads(raw)["headers"][SENT_HEADER])
    except (ValueError, TypeError, LookupError, RecursionError):
        return 0.0
    return max(0.0, time.time() - sent) if math.isfinite(sent) else 0.0


def _headers(trace: str | None) -> dict[str, Any]:
    """Sent as headers, because workers of every release ignore headers that they do not know."""
    known: dict[str, Any] = {SCHEMA_HEADER: MESSAGE_SCHEMA, RELEASE_HEADER: RELEASE, SENT_HEADER: time.time()}
    return known | ({TRACE_HEADER: trace} if trace else {})
