"""The teacher's alternative tokens as ids of the student's vocabulary: servers return them as texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.trainer.data.dataset import Sample
from shared.literal import marks_of
from shared.vlm.loading import LoadedModel

Placed = list[tuple[list[int], list[float]]]
"""For each token of an answer and its end: ids and log-probabilities; two empty lists where nothing is known."""


class TeacherTokens:
    """Reads ``teacher_top`` for one student. ``answer_ids_of`` gives the ids that it learns as a sample's answer."""

    def __init__(self, loaded: LoadedModel, answer_ids_of: Callable[[Sample], Sequence[int]]) -> None:
        self._answer_ids_of = answer_ids_of
        self._texts = [str(loaded.tokenizer.decode([token])) for token in range(len(loaded.tokenizer))]
        self._ids: dict[str, int | None] = {}
        special = {int(loaded.tokenizer.convert_tokens_to_ids(mark)) for mark in marks_of(loaded.tokenizer)}
        for token, text in enumerate(self._texts):
            # Tokens with the same text cannot be told apart: their share goes to the tail. So does that of a special
            # token, which must never be learned from a name that the teacher sent; only the end of an answer may.
            unsure = text in self._ids or (token in special and token not in loaded.eos_ids)
            self._ids[text] = None if unsure else token
        self._read: dict[str, Placed | None] = {}

    def has(self, sample: Sample) -> bool:
        return self.read(sample) is not None

    def read(self, sample: Sample) -> Placed | None:
        """The alternatives for each of the student's tokens of the answer.

        None unless the teacher wrote the answer in exactly the tokens that the student learns, as two models with one
        tokenizer do. The end token may be missing.
        """
        if sample.teacher_top is None:
            return None
        if sample.pair_id not in self._read:
            self._read[sample.pair_id] = self._placed(sample, list(self._answer_ids_of(sample)))
        return self._read[sample.pair_id]

    def _placed(self, sample: Sample, ids: list[int]) -> Placed | None:
        tops = sample.teacher_top or ()
        if len(tops) not in (len(ids), len(ids) - 1) or not tops:
            return None
        placed: Placed = []
        for token, alternatives in zip(ids, tops, strict=False):
            if not alternatives or alternatives[0].token != self._texts[token]:
                return None
            known = {self._ids.get(entry.token): entry.logprob for entry in alternatives[1:]}
            known = {token: alternatives[0].logprob, **{id_: value for id_, value in known.items() if id_ != token}}
            pairs = [(id_, value) for id_, value in known.items() if id_ is not None]
            placed.append(([id_ for id_, _ in pairs], [value for _, value in pairs]))
        return placed + [([], [])] * (len(ids) - len(tops))
