"""Rounds in the store: the first report wins, and its numbers come from the rows of the set."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from shared.contracts import RoundReport, Split, TaskShare, Verdict
from shared.sets import read_set, write_shard
from shared.sets.rounds import (
    EXAMPLES,
    counts_of,
    disparity_rate,
    failed_questions,
    publish_round,
    read_round,
    read_rounds,
    task_shares,
)
from shared.store import Store
from tests.shared.sets.rows import row


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path.as_uri())


def report(round_: int, pairs: int = 1) -> RoundReport:
    return RoundReport(round=round_, student="base", pairs=pairs, verdicts={})


def table(store: Store, *changes: dict[str, object]) -> pa.Table:
    write_shard(store, "j", 0, [row(index, **change) for index, change in enumerate(changes)])
    return read_set(store, "j")


def test_the_first_report_of_a_round_wins(store: Store) -> None:
    assert read_round(store, "j", 1) is None
    assert publish_round(store, "j", report(1, 5)) == report(1, 5)
    assert publish_round(store, "j", report(1, 7)) == report(1, 5)
    assert read_round(store, "j", 1) == report(1, 5)


def test_rounds_are_read_up_to_the_first_that_is_not_over(store: Store) -> None:
    for number in (1, 2, 4):
        publish_round(store, "j", report(number))
    assert [one.round for one in read_rounds(store, "j")] == [1, 2]
    assert read_rounds(store, "other") == []


def test_only_checked_pairs_count_in_a_tasks_share(store: Store) -> None:
    verdicts = [Verdict.DISPARITY, Verdict.STUDENT_RIGHT, Verdict.UNPARSABLE, Verdict.TEACHER_INCONSISTENT]
    rows = table(store, *({"verdict": verdict} for verdict in verdicts), {"task": "text", "verdict": Verdict.REFUSED})
    shares = task_shares(rows)
    assert shares == {"chart": TaskShare(checked=2, disparity=1), "text": TaskShare(checked=0, disparity=0)}
    assert disparity_rate(shares) == 0.5
    assert disparity_rate({"text": TaskShare(checked=0, disparity=0)}) is None
    assert counts_of(rows) == dict.fromkeys((*verdicts, Verdict.REFUSED), 1)


def test_examples_are_different_questions_of_images_that_are_not_held_out(store: Store) -> None:
    rows = table(
        store,
        {"question": "why?"},
        {"question": "why?"},
        {"question": "held out?", "split": Split.HELD_OUT},
        {"question": "right?", "verdict": Verdict.STUDENT_RIGHT},
        {"question": None},
        {"question": "who?", "task": "text"},
    )
    assert failed_questions(rows, seed=3) == {"chart": ["why?"], "text": ["who?"]}


def test_at_most_so_many_examples_are_kept_and_the_seed_chooses_them(store: Store) -> None:
    rows = table(store, *({"question": f"{number}?"} for number in range(3 * EXAMPLES)))
    chosen = failed_questions(rows, seed=3)["chart"]
    assert len(chosen) == len(set(chosen)) == EXAMPLES
    assert chosen == sorted(chosen, key=lambda text: int(text[:-1])) == failed_questions(rows, seed=3)["chart"]
    assert chosen != failed_questions(rows, seed=4)["chart"]
