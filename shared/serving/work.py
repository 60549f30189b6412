"""What waits for the model's thread: requests to answer together, and other calls between two batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

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
    """A prompt that is not bound to a checkpoint before its batch begins."""

    def fit(self, serving: Serving) -> Encoded:
        """The prompt as the batch's checkpoint reads it."""


@dataclass(frozen=True)
class Prepared:
    """A prompt encoded for one checkpoint, and how to encode it for another if a swap comes before its batch."""

    encode: Callable[[LoadedModel], Encoded]
    encoded: Encoded
    encoded_for: Serving

    def fit(self, serving: Serving) -> Encoded:
        """Checkpoints with the same processor share an encoding, since no model takes part in it."""
        same = self.encoded_for.loaded.processor is serving.loaded.processor
        return self.encoded if same else self.encode(serving.loaded)


@dataclass(frozen=True)
class StreamPiece:
    """A part of choice number ``choice``. The whole ``answer`` comes with the last part."""

    version: str
    choice: int
    piece: Piece | None = None
    answer: Generated | None = None


class AnswerWork:
    """One request: a prompt and one sampling per choice. All are decoded in one batch, and so by one checkpoint.

    ``on_piece``, if given, is called with every part of the answer, on the model's thread.
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
        """Whether nothing waits for it any more."""
        return self._gone.is_set()

    def abandon(self) -> None:
        """Leave the queue; if the work is being decoded, end its rows at their next token."""
        self._gone.set()
        self.done.cancel()

    def listeners(self, version: str) -> list[ChoiceListener]:
        """Fresh listeners for an attempt by checkpoint ``version``."""
        answers: dict[int, Generated] = {}
        return [ChoiceListener(self, version, choice, answers) for choice in range(len(self.samplings))]


class ChoiceListener:
    """Listens to one choice of a work, and completes the work when its last choice is done."""

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


class CallWork:
    """Another call to the model, made between two batches."""

    def __init__(self, call: Callable[[Serving], Any]) -> None:
        self.call = call
        self.done: Future[Any] = Future()
