"""What waits for the model thread: questions to answer together, and other calls between two batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.errors import Busy
from shared.vlm.generation import Generated, Piece
from shared.vlm.image_features import FeatureReuse
from shared.vlm.loading import LoadedModel
from shared.vlm.prompting import Encoded
from shared.vlm.sampling import Sampling


@dataclass(frozen=True)
class Serving:
    """A checkpoint in memory, and the image features that it has computed."""

    version: str
    loaded: LoadedModel
    features: FeatureReuse = field(default_factory=lambda: FeatureReuse(0))


class Fitting(Protocol):
    """A prompt that waits for whatever checkpoint its batch will have."""

    def fit(self, serving: Serving) -> Encoded:
        """As that checkpoint reads it."""


@dataclass(frozen=True)
class Prepared:
    """A prompt encoded for a checkpoint, and how to encode it for another if a swap comes between arrival and batch."""

    encode: Callable[[LoadedModel], Encoded]
    encoded: Encoded
    encoded_for: Serving

    def fit(self, serving: Serving) -> Encoded:
        """An encoding is the processor's work alone; checkpoints with the same one share it."""
        same = self.encoded_for.loaded.processor is serving.loaded.processor
        return self.encoded if same else self.encode(serving.loaded)


@dataclass(frozen=True)
class StreamPiece:
    """A part of choice number ``choice``; ``finish_reason`` and ``answer`` come with its last one."""

    version: str
    choice: int
    piece: Piece | None = None
    answer: Generated | None = None


class AnswerWork:
    """One request: a prompt and one sampling a choice, all decoded in one batch, so by one checkpoint.

    ``on_piece``, if given, hears of every part of the answer on the model's thread.
    """

    def __init__(
        self,
        prepared: Fitting,
        samplings: Sequence[Sampling],
        on_piece: Callable[[StreamPiece], None] | None = None,
    ) -> None:
        self.prepared, self.samplings, self.on_piece = prepared, tuple(samplings), on_piece
        self.done: Future[tuple[str, list[Generated]]] = Future()
        self.arrived = time.monotonic()
        self.begun = False
        self._gone = threading.Event()

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._gone.is_set()

    def abandon(self) -> None:
        """Take it out of the queue, or end its rows at their next token."""
        self._gone.set()
        self.done.cancel()

    def listeners(self, version: str) -> list[ChoiceListener]:
        """Fresh listeners for an attempt by checkpoint ``version``."""
        answers: dict[int, Generated] = {}
        return [ChoiceListener(self, version, choice, answers) for choice in range(len(self.samplings))]


class ChoiceListener:
    """Hears of one choice of a work, and completes the work when its last choice is done."""

    def __init__(self, work: AnswerWork, version: str, choice: int, answers: dict[int, Generated]) -> None:
        self._work, self._version, self._choice, self._answers = work, version, choice, answers

    @property
    def gone(self) -> bool:
        return self._work.gone

    @property
    def streams(self) -> bool:
        return self._work.on_piece is not None

    def piece(self, piece: Piece) -> None:
        self._tell(StreamPiece(self._version, self._choice, piece=piece))

    def finished(self, answer: Generated) -> None:
        self._answers[self._choice] = answer
        self._tell(StreamPiece(self._version, self._choice, answer=answer))
        if len(self._answers) == len(self._work.samplings):
            self._work.done.set_result((self._version, [self._answers[n] for n in range(len(self._answers))]))

    def _tell(self, piece: StreamPiece) -> None:
        if self._work.on_piece is not None:
            self._work.begun = True
            self._work.on_piece(piece)


def check_room(waiting: int, limit: int) -> None:
    """Raises Busy for a request too many."""
    if waiting >= limit:
        raise Busy(
            f"{waiting} requests wait or are in work, the limit is {limit} (MPA_STUDENT_QUEUE_SIZE): retry later.",
            retry_after=1.0,
        )


class CallWork:
    """Something else to do with the model between two batches."""

    def __init__(self, call: Callable[[Serving], Any]) -> None:
        self.call = call
        self.done: Future[Any] = Future()
