"""Ask an engine, without HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from PIL import Image

from services.student.engines.base import Conversation, Engine
from services.student.engines.transformers.engine import TransformersEngine
from shared.contracts import ChatMessage, ImagePart, ImageURL, TextPart
from shared.settings import StudentSettings
from shared.vlm.sampling import Sampling

GREEDY = Sampling(8, top_logprobs=1)
Said = list[tuple[int, float]]


def picture(seed: int, width: int = 96, height: int = 96) -> Image.Image:
    return Image.frombytes("RGB", (width, height), Random(seed).randbytes(width * height * 3))


def question(text: str = "what is this?", images: Sequence[Image.Image] | None = None) -> Conversation:
    shown = (picture(3),) if images is None else tuple(images)
    parts = [ImagePart(type="image_url", image_url=ImageURL(url="data:,")) for _ in shown]
    return Conversation((ChatMessage(role="user", content=[*parts, TextPart(type="text", text=text)]),), shown)


async def said(engine: Engine, asked: Conversation | None = None) -> tuple[str, Said]:
    """Version, and (token, log-probability) of the greedy answer."""
    answered = await engine.answer(asked or question(), [GREEDY])
    return answered.version, [(token.id, token.logprob) for token in answered.answers[0].tokens]


async def fresh(settings: StudentSettings, folder: Path) -> Said:
    """What an engine that has never served anything else says."""
    engine = await TransformersEngine.start(settings, "fresh", folder, None)
    try:
        return (await said(engine))[1]
    finally:
        await engine.close()
