"""Questions that show whether vLLM answers as the checkpoint was trained to, and scores its own answers correctly."""

from __future__ import annotations

import io

import torch

from services.student.engines.base import Conversation
from services.student.engines.checkpoint import check_answer
from services.student.engines.score_check import COARSE, QUESTIONS, TOLERANCE, grey_image, largest_gap
from services.student.engines.vllm.adapters import Served
from services.student.engines.vllm.requests import VllmRequests
from services.student.engines.vllm.wire import Misaligned
from shared.checkpoints import SMOKE_TOKENS
from shared.contracts import ChatMessage, ImagePart, ImageURL, SmokeAnswer, TextPart
from shared.images import to_data_url
from shared.vlm.sampling import Sampling


async def check_smoke(requests: VllmRequests, served: Served, smoke: SmokeAnswer, *, exact: bool) -> None:
    """Ask the card's question. ``exact``: the answer was recorded with this dtype, so it must be the same.

    Raises BadCheckpoint.
    """
    image = ImagePart(type="image_url", image_url=ImageURL(url=f"data:image/png;base64,{smoke.image_png_base64}"))
    content = [image, TextPart(type="text", text=smoke.question)]
    conversation = Conversation((ChatMessage(role="user", content=content),), ())
    answer = (await requests.one_answer(served, conversation, Sampling(max_tokens=SMOKE_TOKENS))).text
    if exact:
        check_answer(served.folder, smoke, answer)


async def find_misalignment(requests: VllmRequests, served: Served, *, exact: bool) -> str:
    """Compare the log-probabilities that vLLM gave while it wrote an answer with its scores of that answer.

    Returns what is wrong; empty if nothing is.
    """
    file = io.BytesIO()
    grey_image().save(file, "PNG")
    image = ImagePart(type="image_url", image_url=ImageURL(url=to_data_url(file.getvalue())))
    for text in QUESTIONS:
        content = [image, TextPart(type="text", text=text)]
        conversation = Conversation((ChatMessage(role="user", content=content),), (grey_image(),))
        try:
            answer = await requests.one_answer(served, conversation, Sampling(max_tokens=SMOKE_TOKENS))
            score = await requests.one_score(served, conversation, answer.text)
        except Misaligned as error:
            return error.detail
        written = [token.text for token in answer.tokens]
        if written != list(score.tokens[:-1]):  # vLLM wrote other tokens than the tokenizer makes of the text
            continue
        found = score.logprobs[: len(written)]
        worst = largest_gap(found, [token.logprob for token in answer.tokens]) if written else 0.0
        if worst > (TOLERANCE[torch.float32] if exact else COARSE):
            return f"the answer {answer.text!r} is scored {worst:.3g} nats off what it was written with"
    return ""
