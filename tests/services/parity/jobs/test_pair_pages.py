"""Pages of a job's pairs: whatever the filter and the page size, each pair comes once and in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.parity.jobs.pair_pages import read_pairs
from shared.contracts import Pair, Verdict
from shared.errors import InvalidInput
from shared.sets import write_shard
from shared.store import Store
from tests.shared.sets.rows import row

KINDS = (Verdict.DISPARITY, Verdict.STUDENT_RIGHT, Verdict.DUPLICATE)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three shards with 5, 0 and 7 pairs; the second is missing."""
    store = Store(tmp_path.as_uri())
    for shard, count in ((0, 5), (2, 7)):
        rows = [
            row(10 * shard + index, shard=shard, verdict=KINDS[index % 3], task="chart" if index % 2 else "text")
            for index in range(count)
        ]
        write_shard(store, "j", shard, rows)
    return store


def all_pages(store: Store, limit: int, *verdicts: Verdict, task: str | None = None) -> list[list[Pair]]:
    pages: list[list[Pair]] = []
    cursor = None
    while True:
        page = read_pairs(store, "j", verdicts=verdicts, task=task, cursor=cursor, limit=limit)
        pages.append(page.pairs)
        if (cursor := page.next_cursor) is None:
            return pages


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 7, 12, 13, 100])
@pytest.mark.parametrize("verdicts", [(), (Verdict.DISPARITY,), (Verdict.STUDENT_RIGHT, Verdict.DUPLICATE)])
@pytest.mark.parametrize("task", [None, "chart"])
def test_every_pair_comes_once_and_in_order(
    store: Store, limit: int, verdicts: tuple[Verdict, ...], task: str | None
) -> None:
    (whole,) = all_pages(store, 1000, *verdicts, task=task)
    assert {pair.verdict for pair in whole} <= set(verdicts or KINDS)
    assert task is None or {pair.task for pair in whole} == {task}
    pages = all_pages(store, limit, *verdicts, task=task)
    assert [pair for page in pages for pair in page] == whole
    assert all(len(page) == limit for page in pages[:-1])


def test_a_page_goes_on_in_a_shard_that_is_published_later(store: Store) -> None:
    page = read_pairs(store, "j", verdicts=(), task=None, cursor=None, limit=5)
    assert page.next_cursor is not None
    write_shard(store, "j", 1, [row(100, shard=1)])
    following = read_pairs(store, "j", verdicts=(), task=None, cursor=page.next_cursor, limit=1)
    assert [pair.image for pair in following.pairs] == ["/pile/100.png"]


@pytest.mark.parametrize("cursor", ["", "1", "1-", "a-b", "1-2-3", "-1-2", "1-12345678901", "1-2\n3"])
def test_a_cursor_that_is_not_ours_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidInput, match="pass the next_cursor of the previous page"):
        read_pairs(store, "j", verdicts=(), task=None, cursor=cursor, limit=5)


def test_a_job_without_shards_has_an_empty_page(store: Store) -> None:
    page = read_pairs(store, "other", verdicts=(), task=None, cursor=None, limit=5)
    assert (page.pairs, page.next_cursor) == ([], None)
