"""Between the student's engine and vLLM's chat completions: bodies, answers, streams and scores."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.student.engines.base import Conversation
from shared.errors import InvalidInput, MPAError, Unavailable
from shared.sse import read_events
from shared.vlm.generation import Generated, Piece, Token, TopToken
from shared.vlm.sampling import Sampling
from shared.vlm.scoring import Score

CHAT = "/v1/chat/completions"
REFUSED = (400, 404, 413, 422)


class Misaligned(MPAError):
    """vLLM's log-probabilities of a prompt belong to the wrong tokens."""

    status, slug, title = 502, "misaligned-scores", "The scores cannot be trusted"


def chat_body(model: str, conversation: Conversation, sampling: Sampling) -> dict[str, Any]:
    """One answer with log-probabilities. Messages go as they came: vLLM applies the model's chat template."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [message.model_dump(exclude_none=True) for message in conversation.messages],
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        # A model's own generation config may add a penalty, which changes log-probabilities.
        "repetition_penalty": 1.0,
        "top_k": 0,
        "logprobs": True,
        "top_logprobs": sampling.top_logprobs,
        "return_token_ids": True,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    return body


def score_body(model: str, conversation: Conversation, answer: str) -> dict[str, Any]:
    """The conversation with ``answer`` as its last turn, whose log-probabilities are wanted."""
    messages = [message.model_dump(exclude_none=True) for message in conversation.messages]
    return {
        "model": model,
        "messages": [*messages, {"role": "assistant", "content": answer}],
        "add_generation_prompt": False,
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,
        "return_token_ids": True,
    }


def read_answer(reply: dict[str, Any], eos: tuple[int, ...]) -> Generated:
    """The one choice of a whole reply."""
    choice, usage = reply["choices"][0], reply["usage"]
    growing = Growing(eos)
    growing.add(choice, choice["message"].get("content") or "")
    return growing.answer(usage)


@dataclass
class Growing:
    """An answer as its parts arrive."""

    eos: tuple[int, ...]
    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    finish_reason: str = ""

    def add(self, choice: dict[str, Any], text: str) -> Piece:
        """Take a part. The end token does not belong to an answer."""
        content = (choice.get("logprobs") or {}).get("content") or []
        ids = choice.get("token_ids") or [-1] * len(content)
        tokens = [_token(id_, entry) for id_, entry in zip(ids, content, strict=True) if id_ not in self.eos]
        self.text += text
        self.tokens += tokens
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        return Piece(text, tuple(tokens))

    def answer(self, usage: dict[str, Any]) -> Generated:
        return Generated(
            text=self.text,
            tokens=tuple(self.tokens),
            finish_reason=self.finish_reason or "length",
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
        )


async def read_chunks(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    """The chunks of a stream. Raises Unavailable if an error is among them."""
    async for data in read_events(lines):
        chunk: dict[str, Any] = json.loads(data)
        if "error" in chunk:
            raise Unavailable(f"vLLM broke off this answer: {message_of(chunk)}. Ask again.", retry_after=1.0)
        yield chunk


def read_score(reply: dict[str, Any], answer: str, ids: Sequence[int], words: Sequence[str]) -> Score:
    """The log-probabilities of ``ids`` (the answer and its end token), where they stand last in the prompt.

    Log-probabilities of prompts with images have been reported out of step with their tokens, so each one must name the
    token at its place. Raises Misaligned.
    """
    prompt, values = reply["prompt_token_ids"], reply["prompt_logprobs"]
    start = _last_place(prompt, list(ids))
    if start is None or len(prompt) != len(values):
        raise Misaligned(
            f"The tokens of the answer {answer!r} are not found in its prompt: the model's chat template changes it. "
            "Score with MPA_STUDENT_ENGINE=transformers."
        )
    logprobs = []
    for place, token in enumerate(ids, start):
        entry = (values[place] or {}).get(str(token))
        if entry is None:
            raise Misaligned(f"vLLM reports log-probabilities of other tokens at place {place} of the prompt.")
        logprobs.append(float(entry["logprob"]))
    return Score(answer, tuple(words), tuple(logprobs))


def raise_for(status: int, content: bytes) -> None:
    """Raises InvalidInput for what vLLM refused, Unavailable for what it failed on."""
    if status == 200:
        return
    try:
        words = message_of(json.loads(content))
    except ValueError:
        words = content.decode(errors="replace")[:500]
    if status in REFUSED:
        raise InvalidInput(f"vLLM refuses the request: {words}")
    raise Unavailable(f"vLLM answered {status}: {words}. Ask again.", retry_after=1.0)


def message_of(body: dict[str, Any]) -> str:
    error = body.get("error", body)
    return str(error.get("message", error) if isinstance(error, dict) else error)[:500]


def _last_place(tokens: list[int], wanted: list[int]) -> int | None:
    for start in range(len(tokens) - len(wanted), -1, -1):
        if tokens[start : start + len(wanted)] == wanted:
            return start
    return None


def _token(token_id: int, entry: dict[str, Any]) -> Token:
    top = tuple(TopToken(other["token"], other["logprob"]) for other in entry.get("top_logprobs") or [])
    return Token(token_id, entry["token"], entry["logprob"], top)
