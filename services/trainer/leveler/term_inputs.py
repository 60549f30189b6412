"""What the terms of the alignment loss need besides the batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.trainer.data.dataset import TrainingSet
from services.trainer.data.encoder import Encoder
from services.trainer.data.targets import TargetMaker
from services.trainer.data.teacher_tokens import TeacherTokens
from services.trainer.leveler.attention import StudentMaps
from shared.contracts import LossSpec


@dataclass(frozen=True)
class TermInputs:
    """What terms besides the answer's cross-entropy need; all None without such terms."""

    maker: TargetMaker | None = None
    tops: TeacherTokens | None = None
    maps: StudentMaps | None = None


def prepare_terms(
    alignment: LossSpec, model: Any, encoder: Encoder, data: TrainingSet, can_explain: Callable[[str], bool]
) -> TermInputs:
    """Raises InvalidInput if the set lacks what the alignment asks for."""
    if not alignment.has_terms:
        return TermInputs()
    tops = TeacherTokens(encoder.loaded, encoder.answer_ids)
    maker = TargetMaker(alignment, tops.has, can_explain)
    maker.check(data)
    if alignment.attention <= 0:
        return TermInputs(maker, tops)
    model.set_attn_implementation("eager")  # the only implementation that returns attention weights
    return TermInputs(maker, tops, StudentMaps(encoder.loaded))
