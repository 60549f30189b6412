"""Job records, leases and counters in Redis. No other package names Redis keys."""

import redis.exceptions

from shared.state.connection import RedisRefuses, redis_trouble
from shared.state.jobs import JobStore, Rebuilt, check_cancel, check_retry
from shared.state.records import (
    COLLECT_STATES,
    LEGAL,
    TRAIN_STATES,
    JobInfo,
    Lease,
    ShardRecord,
    ShardResult,
    Snapshot,
    TrainingRecord,
    WorkStatus,
    round_of_shard,
    shards_of_round,
)
from shared.state.status import pair_counts, seconds_by_state, shards_done, to_status, train_disparities

REDIS_OUTAGES: dict[type[Exception], str] = {
    RedisRefuses: "Redis is full, read-only or starting",
    redis.exceptions.ConnectionError: "Redis cannot be reached",
    redis.exceptions.TimeoutError: "Redis cannot be reached",
}
"""For `shared.http.create_app`: what a JobStore raises while Redis is away, or does not do what it is asked for."""

__all__ = [
    "COLLECT_STATES",
    "LEGAL",
    "REDIS_OUTAGES",
    "TRAIN_STATES",
    "JobInfo",
    "JobStore",
    "Lease",
    "Rebuilt",
    "RedisRefuses",
    "ShardRecord",
    "ShardResult",
    "Snapshot",
    "TrainingRecord",
    "WorkStatus",
    "check_cancel",
    "check_retry",
    "pair_counts",
    "redis_trouble",
    "round_of_shard",
    "seconds_by_state",
    "shards_done",
    "shards_of_round",
    "to_status",
    "train_disparities",
]
