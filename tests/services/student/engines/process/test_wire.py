"""What goes over the line between the service and the model's process comes back as it was."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.student.engines.base import WeightsLost
from services.student.engines.process.wire import (
    LENGTHS,
    answer_head,
    error_head,
    frame,
    piece_head,
    prompt_head,
    prompt_payload,
    read_answer,
    read_error,
    read_piece,
    read_prompts,
    read_sampling,
    read_score,
    sampling_head,
    score_head,
)
from shared.errors import BadCheckpoint, Busy, InvalidInput, MPAError, Unavailable
from shared.serving.work import StreamPiece
from shared.vlm.generation import Generated, Piece, Token, TopToken
from shared.vlm.prompting import Encoded
from shared.vlm.sampling import Sampling
from shared.vlm.scoring import Score

numbers = st.floats(allow_nan=False)
alternatives = st.builds(TopToken, st.text(), numbers)
tokens = st.builds(Token, st.integers(0, 1 << 20), st.text(), numbers, st.lists(alternatives, max_size=3).map(tuple))
token_rows = st.lists(tokens, max_size=4).map(tuple)
counts = st.integers(0, 1 << 30)
answers = st.builds(Generated, st.text(), token_rows, st.sampled_from(["stop", "length"]), counts, counts)
samplings = st.builds(
    Sampling, counts, numbers, numbers, st.none() | counts, st.lists(st.text(), max_size=3).map(tuple), counts
)
pieces = st.builds(
    StreamPiece, st.text(), counts, st.none() | st.builds(Piece, st.text(), token_rows), st.none() | answers
)
scores = st.builds(Score, st.text(), st.lists(st.text()).map(tuple), st.lists(numbers).map(tuple))


def sent(head: object) -> dict[str, object]:
    """As the other side reads it."""
    data = frame({"head": head}, b"tail")
    text, payload = LENGTHS.unpack(data[: LENGTHS.size])
    assert (len(data) - LENGTHS.size - text, data[-payload:]) == (payload, b"tail")
    read: dict[str, object] = json.loads(data[LENGTHS.size : LENGTHS.size + text])["head"]
    return read


@pytest.mark.slow
@given(answers, samplings, pieces, scores)
def test_everything_comes_back_as_it_was(
    answer: Generated, sampling: Sampling, piece: StreamPiece, score: Score
) -> None:
    assert read_answer(sent(answer_head(answer))) == answer
    assert read_sampling(sent(sampling_head(sampling))) == sampling
    assert read_piece(sent(piece_head(piece))) == piece
    assert read_score(sent(score_head(score))) == score


def test_prompts_keep_their_tensors() -> None:
    turns = ({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "é?"}]},)
    pixels = torch.rand(1, 2, 3, 4, 4).transpose(3, 4)
    ids, mask = torch.arange(5)[None], torch.ones(1, 5, dtype=torch.bool)
    prompts = [
        Encoded({"input_ids": ids, "pixel_values": pixels, "attention_mask": mask}, 5, "<image> é?", turns, "key"),
        Encoded({"input_ids": ids[:, :2]}, 2),
    ]
    heads = [json.loads(json.dumps(prompt_head(prompt))) for prompt in prompts]
    for read, prompt in zip(read_prompts(heads, prompt_payload(prompts)), prompts, strict=True):
        assert (read.length, read.text, read.turns, read.image_key) == (
            prompt.length, prompt.text, prompt.turns, prompt.image_key,
        )  # fmt: skip
        assert read.features.keys() == prompt.features.keys()
        for name, tensor in prompt.features.items():
            assert read.features[name].dtype == tensor.dtype
            assert torch.equal(read.features[name], tensor)


@pytest.mark.parametrize(
    "error",
    [Busy("full", retry_after=1.5), BadCheckpoint("no"), InvalidInput("long"), Unavailable("gone"), WeightsLost("x")],
)
def test_errors_keep_their_kind(error: MPAError) -> None:
    read = read_error(sent(error_head(error)))
    assert (type(read), read.detail, read.retry_after) == (type(error), error.detail, error.retry_after)


def test_any_other_error_is_named() -> None:
    read = read_error(sent(error_head(RuntimeError("out of memory"))))
    assert type(read) is MPAError and "RuntimeError: out of memory" in read.detail
