"""Small real requests that show whether a model server answers, not just whether it listens, and how it reads text."""

from __future__ import annotations

import io
from typing import Any

import httpx
from PIL import Image

from shared.escapes import QUOTE, Escapes
from shared.images import to_data_url

IMAGE_SIDE = 64
SIGNS = f"< a < b [ c {QUOTE}"


def probe_body(model: str) -> dict[str, Any]:
    """A chat with a small image and log-probabilities. It takes every path that later requests take."""
    file = io.BytesIO()
    Image.new("RGB", (IMAGE_SIDE, IMAGE_SIDE), (90, 140, 200)).save(file, "PNG")
    content = [
        {"type": "image_url", "image_url": {"url": to_data_url(file.getvalue())}},
        {"type": "text", "text": "What is this?"},
    ]
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 2,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 1,
    }


async def why_unhealthy(http: httpx.AsyncClient, base_url: str, timeout: float) -> str | None:
    """None if ``/health`` answers 200 within ``timeout`` seconds, otherwise the reason in words."""
    try:
        response = await http.get(f"{base_url}/health", timeout=timeout)
    except httpx.HTTPError as error:
        return f"/health does not answer ({type(error).__name__})"
    return None if response.status_code == 200 else f"/health answers {response.status_code}"


async def why_no_answer(http: httpx.AsyncClient, base_url: str, body: dict[str, Any], timeout: float) -> str | None:
    """None if a chat with an image gets log-probabilities within ``timeout`` seconds, otherwise the reason."""
    try:
        response = await http.post(f"{base_url}/v1/chat/completions", json=body, timeout=timeout)
    except httpx.HTTPError as error:
        return f"a small chat request got no answer ({type(error).__name__})"
    if response.status_code != 200:
        return f"a small chat request was answered with {response.status_code}: {response.text[:300]}"
    try:
        answered = response.json()["choices"][0]["logprobs"] is not None
    except (ValueError, LookupError, TypeError):
        answered = False
    return None if answered else "a small chat request was answered without log-probabilities"


async def reads_escapes(http: httpx.AsyncClient, base_url: str, model: str, timeout: float) -> bool:
    """Whether the server reads a text with escapes (shared/escapes.py) as the text itself."""
    read = [await _tokens(http, base_url, model, text, timeout) for text in (SIGNS, Escapes().write(SIGNS))]
    return read[0] is not None and read[0] == read[1]


async def _tokens(http: httpx.AsyncClient, base_url: str, model: str, text: str, timeout: float) -> list[int] | None:
    body = {"model": model, "prompt": text, "add_special_tokens": False}
    try:
        response = await http.post(f"{base_url}/tokenize", json=body, timeout=timeout)
        tokens: list[int] = response.json()["tokens"]
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return None
    return tokens
