"""The messages between the service and the process that runs its model: frames of JSON, followed by tensors.

A frame has two lengths (little endian, 4 and 8 bytes), a JSON object, and safetensors, which may be empty.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from safetensors.torch import load, save

from services.student.engines.base import WeightsLost
from shared.errors import BadCheckpoint, Busy, InvalidInput, MPAError, NotFound, Unavailable
from shared.serving.work import StreamPiece
from shared.vlm.generation import Generated, Piece, Token, TopToken
from shared.vlm.prompting import Encoded
from shared.vlm.sampling import Sampling
from shared.vlm.scoring import Score

LENGTHS = struct.Struct("<IQ")
Json = dict[str, Any]


class Stale(MPAError):
    """The prompt was encoded for a checkpoint with another processor than the serving one: encode it again."""

    status, slug, title = 503, "stale-prompt", "The checkpoint changed"


KINDS: dict[str, type[MPAError]] = {
    kind.slug: kind for kind in (BadCheckpoint, Busy, InvalidInput, NotFound, Stale, Unavailable, WeightsLost)
}


def frame(head: Mapping[str, Any], payload: bytes = b"") -> bytes:
    text = json.dumps(head).encode()
    return LENGTHS.pack(len(text), len(payload)) + text + payload


def prompt_head(encoded: Encoded) -> Json:
    """An encoded prompt without its tensors."""
    return {
        "length": encoded.length,
        "text": encoded.text,
        "turns": list(encoded.turns),
        "image_key": encoded.image_key,
    }


def prompt_payload(prompts: Sequence[Encoded]) -> bytes:
    """The tensors of some prompts."""
    tensors: dict[str, torch.Tensor] = {}
    places: set[int] = set()
    for number, prompt in enumerate(prompts):
        for name, tensor in prompt.features.items():
            place = tensor.untyped_storage().data_ptr()
            # safetensors refuses two tensors in one memory
            tensors[f"{number}/{name}"] = (
                tensor.clone(memory_format=torch.contiguous_format) if place in places else tensor.contiguous()
            )
            places.add(place)
    return save(tensors)


def read_prompts(heads: Sequence[Json], payload: bytes) -> list[Encoded]:
    features: list[dict[str, torch.Tensor]] = [{} for _ in heads]
    for name, tensor in load(payload).items():
        number, _, own = name.partition("/")
        features[int(number)][own] = tensor
    return [
        Encoded(mine, head["length"], head["text"], tuple(head["turns"]), head["image_key"])
        for head, mine in zip(heads, features, strict=True)
    ]


def sampling_head(sampling: Sampling) -> Json:
    return asdict(sampling)


def read_sampling(head: Json) -> Sampling:
    return Sampling(**{**head, "stop": tuple(head["stop"])})


def answer_head(answer: Generated) -> Json:
    return {
        "text": answer.text,
        "tokens": [_token_head(token) for token in answer.tokens],
        "finish": answer.finish_reason,
        "counts": [answer.prompt_tokens, answer.completion_tokens],
    }


def read_answer(head: Json) -> Generated:
    return Generated(head["text"], _read_tokens(head["tokens"]), head["finish"], *head["counts"])


def piece_head(piece: StreamPiece) -> Json:
    """A part of the answer, or its end."""
    part, answer = piece.piece, piece.answer
    return {
        "version": piece.version,
        "choice": piece.choice,
        "piece": None if part is None else [part.text, [_token_head(token) for token in part.tokens]],
        "answer": None if answer is None else answer_head(answer),
    }


def read_piece(head: Json) -> StreamPiece:
    part, answer = head["piece"], head["answer"]
    return StreamPiece(
        head["version"],
        head["choice"],
        piece=None if part is None else Piece(part[0], _read_tokens(part[1])),
        answer=None if answer is None else read_answer(answer),
    )


def score_head(score: Score) -> Json:
    return asdict(score)


def read_score(head: Json) -> Score:
    return Score(head["answer"], tuple(head["tokens"]), tuple(head["logprobs"]))


def error_head(error: BaseException) -> Json:
    if isinstance(error, MPAError):
        return {"kind": error.slug, "detail": error.detail, "retry_after": error.retry_after}
    return {"kind": "", "detail": f"The model failed ({type(error).__name__}: {error}).", "retry_after": None}


def read_error(head: Json) -> MPAError:
    return KINDS.get(head["kind"], MPAError)(head["detail"], retry_after=head["retry_after"])


def _token_head(token: Token) -> list[Any]:
    return [token.id, token.text, token.logprob, [[other.token, other.logprob] for other in token.top]]


def _read_tokens(heads: Sequence[Sequence[Any]]) -> tuple[Token, ...]:
    return tuple(Token(h[0], h[1], h[2], tuple(TopToken(*other) for other in h[3])) for h in heads)
