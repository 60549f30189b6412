"""What the alignment's terms need beside the batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.trainer.data.collator import Encoder
from services.trainer.data.dataset import TrainingSet
from services.trainer.data.teacher_tokens import TeacherTokens
from services.trainer.data.texts import RowMaker
from services.trainer.leveler.attention import StudentMaps
from shared.loss_spec import Alignment


@dataclass(frozen=True)
class Aids:
    """What an alignment with terms beside the answer needs; all None for one that has none."""

    maker: RowMaker | None = None
    tops: TeacherTokens | None = None
    maps: StudentMaps | None = None


def aids_of(
    alignment: Alignment, model: Any, encoder: Encoder, data: TrainingSet, can_explain: Callable[[str], bool]
) -> Aids:
    """Raises InvalidInput where the set lacks what the alignment asks for."""
    if alignment == Alignment():
        return Aids()
    tops = TeacherTokens(encoder.loaded, encoder.answer_ids)
    maker = RowMaker(alignment, tops.has, can_explain)
    maker.check(data)
    if alignment.attention <= 0:
        return Aids(maker, tops)
    model.set_attn_implementation("eager")  # the only kind that shows its weights
    return Aids(maker, tops, StudentMaps(encoder.loaded))
