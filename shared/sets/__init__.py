"""Disparity sets: the schema, one Parquet shard after the other, and the rounds that a job mines."""

from shared.sets.shards import (
    SCHEMA,
    Alternative,
    Row,
    export_llava,
    read_set,
    read_shard,
    set_digest,
    set_prefix,
    shard_key,
    shard_numbers,
    summarise,
    tally,
    to_pair,
    write_shard,
)

__all__ = [
    "SCHEMA",
    "Alternative",
    "Row",
    "export_llava",
    "read_set",
    "read_shard",
    "set_digest",
    "set_prefix",
    "shard_key",
    "shard_numbers",
    "summarise",
    "tally",
    "to_pair",
    "write_shard",
]
