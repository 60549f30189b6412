"""Log lines carry service and ids."""

from __future__ import annotations

import json
import logging

from shared.telemetry import JsonFormatter, TextFormatter


def record(**extra: object) -> logging.LogRecord:
    made = logging.LogRecord("services.parity", logging.INFO, __file__, 1, "shard %d done", (3,), None)
    made.__dict__.update(extra)
    return made


def test_json_lines_parse_and_carry_ids() -> None:
    entry = json.loads(JsonFormatter("parity").format(record(job_id="j1", shard=3)))
    assert (entry["service"], entry["message"], entry["job_id"], entry["shard"]) == ("parity", "shard 3 done", "j1", 3)


def test_text_lines_end_with_ids() -> None:
    assert TextFormatter().format(record(job_id="j1")).endswith("shard 3 done  job_id=j1")
