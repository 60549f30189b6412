"""What a student engine can do, whatever runs the model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from services.student.engines.transformers.work import StreamPiece
from shared.contracts import ChatMessage, SmokeAnswer
from shared.vlm.generation import Generated
from shared.vlm.sampling import Sampling
from shared.vlm.scoring import Score


@dataclass(frozen=True)
class Question:
    """Chat messages, and the images they show in order of appearance."""

    messages: tuple[ChatMessage, ...]
    images: tuple[Image.Image, ...]


@dataclass(frozen=True)
class Answered:
    """Answers to one question; all of them come from checkpoint ``version``."""

    version: str
    answers: list[Generated]


@dataclass(frozen=True)
class Scored:
    """Scores [item][answer]; all of them come from checkpoint ``version``."""

    version: str
    scores: list[list[Score]]


class Watcher(Protocol):
    """Hears how an engine works, on whatever thread that happens."""

    def batch(self, answers: int, waits: Sequence[float]) -> None:
        """A batch of so many answers begins; its requests waited so long for it, in seconds, as far as is known."""

    def images(self, hits: int, misses: int) -> None:
        """Of a batch's prompts with images, so many were recognised, and the features of the others computed."""


class Unwatched:
    """A `Watcher` that tells nobody."""

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
        """Why ``score`` is off, empty if it is not: what the check at the start found."""

    async def answer(self, question: Question, samplings: Sequence[Sampling]) -> Answered:
        """One answer a sampling. Raises Busy if too many requests wait, InvalidInput if the prompt is too long."""

    def stream(self, question: Question, samplings: Sequence[Sampling]) -> AsyncGenerator[StreamPiece]:
        """The same answers piece by piece, as they are decoded; closing the generator ends the work."""

    async def score(self, items: Sequence[tuple[Question, Sequence[str]]]) -> Scored:
        """Log-probabilities of given answers."""

    async def swap(self, version: str, folder: Path, smoke: SmokeAnswer | None) -> None:
        """Load ``folder`` beside the running checkpoint, try it, and switch. Raises BadCheckpoint; then nothing
        changed.
        """

    async def switch_back(self, version: str) -> bool:
        """Switch to ``version`` without a load, if it is still held; returns whether it was."""

    async def close(self) -> None:
        """Finish the running batch and stop; questions that wait get Unavailable."""
