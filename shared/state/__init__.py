"""Job records, leases and counters in Redis. No other package names Redis keys."""

import redis.exceptions

from shared.state.jobs import JobStore, Rebuilt
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
    redis.exceptions.ConnectionError: "Redis",
    redis.exceptions.TimeoutError: "Redis",
}
"""For `shared.http.create_app`: what a JobStore raises while Redis is away or still loading its file."""

__all__ = [
    "COLLECT_STATES",
    "LEGAL",
    "REDIS_OUTAGES",
    "TRAIN_STATES",
    "JobInfo",
    "JobStore",
    "Lease",
    "Rebuilt",
    "ShardRecord",
    "ShardResult",
    "Snapshot",
    "TrainingRecord",
    "WorkStatus",
    "pair_counts",
    "round_of_shard",
    "seconds_by_state",
    "shards_done",
    "shards_of_round",
    "to_status",
    "train_disparities",
]
