"""The interface of a student engine, whatever runs the model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from shared.contracts import ChatMessage, SmokeAnswer
from shared.errors import Busy, MPAError
from shared.serving.work import StreamPiece
from shared.vlm.generation import Generated
from shared.vlm.sampling import Sampling
from shared.vlm.scoring import Score


class WeightsLost(MPAError):
    """Neither the new weights nor the old ones are whole in memory, so the engine must stop answering."""

    status, slug, title = 503, "weights-lost", "The student has no weights"


def check_room(waiting: int, limit: int) -> None:
    """Raises Busy if there are ``limit`` or more ``waiting`` requests."""
    if waiting >= limit:
        raise Busy(
            f"{waiting} requests are waiting or running; the limit is {limit} (MPA_STUDENT_QUEUE_SIZE): retry later.",
            retry_after=1.0,
        )


@dataclass(frozen=True)
class Conversation:
    """Chat messages, and the images they show in order of appearance."""

    messages: tuple[ChatMessage, ...]
    images: tuple[Image.Image, ...]


@dataclass(frozen=True)
class Answers:
    """Answers to one conversation; all of them come from checkpoint ``version``."""

    version: str
    answers: list[Generated]


@dataclass(frozen=True)
class Scored:
    """Scores [item][answer]; all of them come from checkpoint ``version``."""

    version: str
    scores: list[list[Score]]


class Watcher(Protocol):
    """An engine calls it as it works, on any thread."""

    def batch(self, answers: int, waits: Sequence[float]) -> None:
        """A batch of that many ``answers`` begins. ``waits``: seconds that its requests waited, where that is known."""

    def images(self, hits: int, misses: int) -> None:
        """The image features of a batch: ``hits`` prompts had theirs kept, ``misses`` had theirs computed."""


class Unwatched:
    """A `Watcher` that does nothing."""

    def batch(self, answers: int, waits: Sequence[float]) -> None: ...

    def images(self, hits: int, misses: int) -> None: ...


UNWATCHED = Unwatched()


class Engine(Protocol):
    """Runs one checkpoint at a time and changes it between two batches."""

    @property
    def version(self) -> str:
        """The checkpoint that serves now."""

    @property
    def queued(self) -> int:
        """Requests that wait for a batch."""

    @property
    def alive(self) -> bool:
        """Whether questions are being answered."""

    @property
    def trouble(self) -> str:
        """Why it is not alive, in words."""

    @property
    def score_trouble(self) -> str:
        """Why ``score`` is off, as the check at the start found; empty if it is on."""

    async def answer(self, conversation: Conversation, samplings: Sequence[Sampling]) -> Answers:
        """One answer per sampling. Raises Busy if too many requests wait, InvalidInput if the prompt is too long."""

    def stream(self, conversation: Conversation, samplings: Sequence[Sampling]) -> AsyncGenerator[StreamPiece]:
        """The same answers piece by piece, as they are decoded; closing the generator ends the work."""

    async def score(self, items: Sequence[tuple[Conversation, Sequence[str]]]) -> Scored:
        """Log-probabilities of given answers."""

    async def swap(self, version: str, folder: Path, smoke: SmokeAnswer | None) -> None:
        """Load ``folder`` beside the running checkpoint, try it, and switch. If it raises BadCheckpoint, nothing
        changed.
        """

    async def switch_back(self, version: str) -> bool:
        """Switch to ``version`` if it is still in memory; returns whether it was."""

    async def close(self) -> None:
        """Finish the running batch and stop. Questions that wait get Unavailable."""
