"""Messages between the services, by Celery on Redis; ``shared.queue.worker`` is a process that works on them."""

from shared.queue.broker import (
    COLLECT_QUEUE,
    COLLECT_TASK,
    TRACE_HEADER,
    TRAIN_QUEUE,
    TRAIN_TASK,
    check_message,
    enqueue_shard,
    enqueue_training,
    make_celery,
    oldest_message_age,
    queue_depth,
    set_aside_damaged,
    trace_of,
)

__all__ = [
    "COLLECT_QUEUE",
    "COLLECT_TASK",
    "TRACE_HEADER",
    "TRAIN_QUEUE",
    "TRAIN_TASK",
    "check_message",
    "enqueue_shard",
    "enqueue_training",
    "make_celery",
    "oldest_message_age",
    "queue_depth",
    "set_aside_damaged",
    "trace_of",
]
