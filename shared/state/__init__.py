"""Job records, leases and counters in Redis: the only package that speaks Redis keys."""

from shared.state.blocking import BlockingJobStore
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
)
from shared.state.status import seconds_by_state, shards_done, to_status, train_disparities

__all__ = [
    "COLLECT_STATES",
    "LEGAL",
    "TRAIN_STATES",
    "BlockingJobStore",
    "JobInfo",
    "JobStore",
    "Lease",
    "Rebuilt",
    "ShardRecord",
    "ShardResult",
    "Snapshot",
    "TrainingRecord",
    "WorkStatus",
    "seconds_by_state",
    "shards_done",
    "to_status",
    "train_disparities",
]
