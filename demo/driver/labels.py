"""How right the pseudo-labels were, against the world's truth: for the report only, never on the way to a
checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

from demo.world.generator import pile
from shared.contracts import Pair


def label_accuracy(pairs: Iterable[Pair], count: int, seed: int) -> float | None:
    """Share of ``pairs`` whose teacher answer is the world's answer, for a pile drawn with ``count`` and ``seed``.

    A question that does not apply to its image counts as wrong: no answer to it can be right. None if there is no pair.
    """
    pictures = list(pile(count, seed, "train"))
    right = [
        pictures[int(PurePath(pair.image).stem)].truth(pair.question or "") == pair.teacher_answer for pair in pairs
    ]
    return sum(right) / len(right) if right else None
