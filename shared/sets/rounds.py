"""Rounds of a job in the artifact store: ``jobs/<id>/rounds/<round>.json``, written once when a round is over."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from shared.compatibility import read_stored
from shared.contracts import RoundReport, Split, TaskShare, Verdict
from shared.errors import NotFound
from shared.store import Store

# Checked: both models have answered, and the teacher stands by its answer. Others say nothing about the student.
CHECKED = (Verdict.DISPARITY, Verdict.STUDENT_RIGHT)
EXAMPLES = 32


def round_key(job_id: str, round_: int) -> str:
    return f"jobs/{job_id}/rounds/{round_}.json"


def read_round(store: Store, job_id: str, round_: int) -> RoundReport | None:
    """None while the round is not over."""
    try:
        return read_stored(RoundReport, store.read(round_key(job_id, round_)), f"Round {round_} of job {job_id}")
    except NotFound:
        return None


def read_rounds(store: Store, job_id: str) -> list[RoundReport]:
    """All finished rounds, oldest first."""
    return list(_rounds(store, job_id))


def publish_round(store: Store, job_id: str, report: RoundReport) -> RoundReport:
    """Publish ``report``. The first writer wins; returns the report that is stored."""
    if store.create(round_key(job_id, report.round), report.model_dump_json(indent=1).encode()):
        return report
    return read_round(store, job_id, report.round) or report


def task_shares(rows: pa.Table) -> dict[str, TaskShare]:
    """By task, over the rows of a set (see shared/sets/schema.py)."""
    shares: dict[str, TaskShare] = {}
    for row in rows.select(["task", "verdict"]).to_pylist():
        known = shares.get(row["task"], TaskShare())
        checked, disparity = row["verdict"] in CHECKED, row["verdict"] == Verdict.DISPARITY
        shares[row["task"]] = TaskShare(checked=known.checked + checked, disparity=known.disparity + disparity)
    return dict(sorted(shares.items()))


def disparity_rate(shares: Mapping[str, TaskShare]) -> float | None:
    """The share of disparity pairs among the checked ones, over all tasks; None if nothing was checked."""
    checked = sum(share.checked for share in shares.values())
    return sum(share.disparity for share in shares.values()) / checked if checked else None


def failed_questions(rows: pa.Table, seed: int) -> dict[str, list[str]]:
    """By task, at most EXAMPLES different questions of disparity pairs whose images are not held out."""
    found: dict[str, dict[str, None]] = {}
    for row in rows.select(["task", "verdict", "split", "question"]).to_pylist():
        if row["verdict"] == Verdict.DISPARITY and row["split"] == Split.TRAIN and row["question"]:
            found.setdefault(row["task"], {})[row["question"]] = None
    return {task: _some(list(questions), f"{seed}/{task}") for task, questions in sorted(found.items())}


def _some(questions: Sequence[str], seed: str) -> list[str]:
    chosen = random.Random(seed).sample(range(len(questions)), min(EXAMPLES, len(questions)))
    return [questions[index] for index in sorted(chosen)]


def _rounds(store: Store, job_id: str) -> Iterator[RoundReport]:
    number = 1
    while (report := read_round(store, job_id, number)) is not None:
        yield report
        number += 1


def counts_of(rows: pa.Table) -> dict[Verdict, int]:
    """The number of rows by verdict, without verdicts that no row has."""
    entries: list[dict[str, Any]] = rows["verdict"].value_counts().to_pylist()
    return {Verdict(entry["values"]): int(entry["counts"]) for entry in sorted(entries, key=lambda e: str(e["values"]))}
