"""One row of a batch while it is decoded: when it ends, what it says so far, and who listens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import StoppingCriteria

from shared.vlm.loading import LoadedModel
from shared.vlm.sampling import RowSampler, Sampling, Step

UNFINISHED_CHARACTER = "\ufffd"


@dataclass(frozen=True)
class TopToken:
    token: str
    logprob: float


@dataclass(frozen=True)
class Token:
    """One generated token: log-probability under the unmodified distribution (temperature 1), in nats."""

    id: int
    text: str
    logprob: float
    top: tuple[TopToken, ...] = ()


@dataclass(frozen=True)
class Generated:
    """One answer; ``finish_reason`` is stop or length.

    ``tokens`` are all generated tokens except the end token. They include a stop string's; ``text`` is cut before it.
    """

    text: str
    tokens: tuple[Token, ...]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Piece:
    """The next part of an answer: text that no later token changes, and the tokens decoded since the last piece."""

    text: str
    tokens: tuple[Token, ...]


class Listener(Protocol):
    """Follows one answer while its batch is decoded; called on the thread that decodes."""

    @property
    def gone(self) -> bool:
        """Whether the answer is no longer wanted, so that the row may end."""

    @property
    def streams(self) -> bool:
        """Whether ``piece`` is wanted."""

    def piece(self, piece: Piece) -> None:
        """The answer has grown."""

    def finished(self, answer: Generated) -> None:
        """The answer is complete, though other rows may still be decoded."""


class DecodingRow:
    """Collects one answer; ``open`` until the end token, a stop string, the limit, or its listener leaves."""

    def __init__(self, loaded: LoadedModel, sampling: Sampling, prompt_tokens: int, listener: Listener | None) -> None:
        self.open = True
        self._loaded, self._sampling, self._prompt_tokens, self._listener = loaded, sampling, prompt_tokens, listener
        self._ids: list[int] = []
        self._tokens: list[Token] = []
        self._finish_reason = "length"
        self._ended = False
        self._sent = self._sent_tokens = 0

    def add(self, step: Step, row: int) -> None:
        """Take this row's part of a decoding step."""
        token = step.ids[row]
        self._ended = token in self._loaded.eos_ids
        if not self._ended:
            self._ids.append(token)
            self._tokens.append(self._token(step, row))
        if self._ended or (self._sampling.stop and self._stop_place(self._text()) is not None):
            self._close("stop")
        elif len(self._ids) >= self._sampling.max_tokens or (self._listener and self._listener.gone):
            self._close("length")
        elif self._listener and self._listener.streams:
            self._send(self._settled(self._text()))

    def answer(self) -> Generated:
        text = self._text()
        return Generated(
            text=text[: self._stop_place(text)],
            tokens=tuple(self._tokens),
            finish_reason=self._finish_reason,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=len(self._ids) + int(self._ended),
        )

    def _close(self, reason: str) -> None:
        self.open, self._finish_reason = False, reason
        if self._listener is not None:
            answer = self.answer()
            if self._listener.streams:
                self._send(answer.text)
            self._listener.finished(answer)

    def _text(self) -> str:
        text: str = self._loaded.tokenizer.decode(self._ids, skip_special_tokens=True)
        return text

    def _stop_place(self, text: str) -> int | None:
        return min((text.find(stop) for stop in self._sampling.stop if stop in text), default=None)

    def _settled(self, text: str) -> str:
        """``text`` less an end that may still change: half a character, or the beginning of a stop string."""
        text = text.rstrip(UNFINISHED_CHARACTER)
        held = max((_overlap(text, stop) for stop in self._sampling.stop), default=0)
        return text[: len(text) - held]

    def _send(self, settled: str) -> None:
        if self._listener is None or (len(settled) <= self._sent and len(self._tokens) == self._sent_tokens):
            return
        piece = Piece(settled[self._sent :], tuple(self._tokens[self._sent_tokens :]))
        self._sent, self._sent_tokens = max(self._sent, len(settled)), len(self._tokens)
        self._listener.piece(piece)

    def _token(self, step: Step, row: int) -> Token:
        decode = self._loaded.tokenizer.decode
        wanted = self._sampling.top_logprobs
        best = zip(step.top_ids[row][:wanted], step.top_logprobs[row][:wanted], strict=True)
        alternatives = tuple(TopToken(decode([other]), value) for other, value in best)
        return Token(step.ids[row], decode([step.ids[row]]), step.logprobs[row], alternatives)


class RowStops(StoppingCriteria):
    """Hands each step of ``sampler`` to the rows and ends those that are done."""

    def __init__(self, sampler: RowSampler, rows: Sequence[DecodingRow]) -> None:
        self._sampler, self._rows = sampler, rows

    def __call__(  # the signature is transformers'
        self,
        input_ids: torch.LongTensor,
        scores: torch.FloatTensor,
        **kwargs: Any,
    ) -> torch.BoolTensor:
        """``input_ids`` [B, T] → [B], true where the row is done."""
        for number, row in enumerate(self._rows):
            if row.open:
                row.add(self._sampler.last, number)
        done: Any = torch.tensor([not row.open for row in self._rows], device=input_ids.device)
        return done  # type: ignore[no-any-return]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that ``stop`` begins with."""
    return max((n for n in range(1, min(len(text), len(stop)) + 1) if text.endswith(stop[:n])), default=0)
