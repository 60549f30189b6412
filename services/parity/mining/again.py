"""Some pairs of a finished shard that are made again, while the others stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.parity.mining.pairs import Draft, Judged
from services.parity.mining.question_plan import ImagePlan
from shared.contracts import ManifestEntry, Verdict
from shared.vqa.answers import normalise_question

Place = tuple[int, str]
"""Image index and task."""


@dataclass(frozen=True)
class Again:
    """``slots``: the pairs to make again, each with its question, or None if it has none. ``kept``: the normalised
    questions of the other pairs, with where each was asked.
    """

    slots: Mapping[Place, Mapping[int, str | None]]
    kept: Mapping[Place, Mapping[str, str]]

    def only(self, entries: Collection[ManifestEntry]) -> list[ManifestEntry]:
        """The images and tasks that have such pairs."""
        tasks = {entry.index: [task for task in entry.tasks if (entry.index, task) in self.slots] for entry in entries}
        return [entry.model_copy(update={"tasks": tasks[entry.index]}) for entry in entries if tasks[entry.index]]

    def plan(self, place: Place, plan: ImagePlan) -> ImagePlan:
        """``plan`` for these pairs alone. Questions that others have already asked are duplicates."""
        return replace(plan, slots=frozenset(self.slots[place]), asked={**plan.asked, **self.kept.get(place, {})})

    def drafts(self, place: Place) -> list[Draft | Judged] | None:
        """The pairs with the questions that they have; None if one has none, so that questions must be asked for."""
        asked = self.slots[place]
        drafts: list[Draft | Judged] = [Draft(slot, question) for slot, question in asked.items() if question]
        return drafts if len(drafts) == len(asked) else None


def read_again(rows: Collection[Mapping[str, Any]], verdicts: Collection[Verdict]) -> Again | None:
    """What ``rows`` of a set hold of these verdicts; None if there is no such row."""
    slots: dict[Place, dict[int, str | None]] = {}
    kept: dict[Place, dict[str, str]] = {}
    for row in rows:
        place = (row["image_index"], row["task"])
        if row["verdict"] in verdicts:
            slots.setdefault(place, {})[row["slot"]] = row["question"]
        elif row["question"]:
            kept.setdefault(place, {}).setdefault(normalise_question(row["question"]), f"slot {row['slot']}")
    return Again(slots, kept) if slots else None
