"""`POST /v1/attention` of the model services: from the contract to the probe and back."""

from __future__ import annotations

import asyncio
from pathlib import Path

from PIL import Image

from shared.contracts import AttentionGrid, AttentionItem, AttentionRequest, AttentionResponse
from shared.errors import Forbidden, InvalidInput
from shared.images import ImageLimits, UnreadableImage, decode_image, from_data_url
from shared.vlm.probe import AttentionProbe


async def answer_attention(
    probe: AttentionProbe | None,
    request: AttentionRequest,
    limits: ImageLimits,
    source: tuple[str, str | Path] | None = None,
) -> AttentionResponse:
    """Maps of all items by one version, that of ``source`` if given. Raises Forbidden if the probe is off, and
    InvalidInput that names a wrong item.
    """
    if probe is None:
        raise Forbidden("The attention probe is off here: ask the operator to set MPA_ATTENTION_PROBE=true.")
    items = [await asyncio.to_thread(_read, number, item, limits) for number, item in enumerate(request.items)]
    probed = await probe.measure(items, request.grid, source)
    maps = [AttentionGrid(values=one.values.tolist(), image_share=one.image_share) for one in probed.maps]
    return AttentionResponse(version=probed.version, layers=probed.layers, maps=maps)


def _read(number: int, item: AttentionItem, limits: ImageLimits) -> tuple[Image.Image, str, str]:
    try:
        return decode_image(from_data_url(item.image), limits), item.question, item.answer
    except (UnreadableImage, InvalidInput) as error:
        raise InvalidInput(f"items[{number}]: {error.detail}") from error
