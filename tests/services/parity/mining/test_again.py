"""Which pairs of a shard are made again, and from where."""

from __future__ import annotations

from typing import Any

from services.parity.mining.again import read_again
from services.parity.mining.pairs import Draft
from services.parity.mining.question_plan import ImagePlan
from shared.contracts import ManifestEntry, Verdict

AGAIN = (Verdict.REFUSED, Verdict.UNPARSABLE)


def row(index: int, slot: int, verdict: Verdict, question: str | None = "what is it?", task: str = "chart") -> Any:
    return {"image_index": index, "task": task, "slot": slot, "verdict": str(verdict), "question": question}


ROWS = [
    row(0, 0, Verdict.DISPARITY, "What is it?"),
    row(0, 1, Verdict.REFUSED, None),
    row(0, 2, Verdict.REFUSED, "who is it?"),
    row(1, 0, Verdict.STUDENT_RIGHT),
    row(2, 0, Verdict.UNPARSABLE, "why?", "text"),
    row(2, 0, Verdict.DUPLICATE, "how?"),
]


def test_only_images_and_tasks_with_such_pairs_are_looked_at() -> None:
    again = read_again(ROWS, AGAIN)
    assert again is not None
    entries = [ManifestEntry(index=index, image=f"/{index}.png", tasks=["chart", "text"]) for index in range(3)]
    assert [(entry.index, entry.tasks) for entry in again.only(entries)] == [(0, ["chart"]), (2, ["text"])]


def test_a_pair_keeps_its_question_and_others_are_asked_for() -> None:
    again = read_again(ROWS, AGAIN)
    assert again is not None
    assert again.drafts((2, "text")) == [Draft(0, "why?")]
    assert again.drafts((0, "chart")) is None
    plan = again.plan((0, "chart"), ImagePlan(3, {"old": "slot 0 of round 1"}))
    assert plan.slots == {1, 2}
    assert plan.asked == {"old": "slot 0 of round 1", "what is it": "slot 0"}


def test_without_such_pairs_there_is_nothing_to_do() -> None:
    assert read_again(ROWS, [Verdict.UNREADABLE_IMAGE]) is None
