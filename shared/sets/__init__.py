"""Disparity sets: the schema, the Parquet shards, and the rounds that a job mines."""

from shared.sets.schema import SCHEMA, Alternative, Row
from shared.sets.shards import (
    missing_shards,
    read_set,
    read_shard,
    set_damaged_aside,
    set_digest,
    set_prefix,
    set_shard_aside,
    shard_key,
    shard_numbers,
    to_pair,
    write_shard,
)
from shared.sets.summary import summarise, tally

__all__ = [
    "SCHEMA",
    "Alternative",
    "Row",
    "missing_shards",
    "read_set",
    "read_shard",
    "set_damaged_aside",
    "set_digest",
    "set_prefix",
    "set_shard_aside",
    "shard_key",
    "shard_numbers",
    "summarise",
    "tally",
    "to_pair",
    "write_shard",
]
