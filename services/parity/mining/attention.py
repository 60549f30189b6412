"""Attention of teacher and student on a kept pair: where each looks while it gives the teacher's answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from services.parity.endpoints.endpoint import Endpoint
from services.parity.endpoints.patience import RequestRefused
from services.parity.images.picture import Picture
from shared.client import HttpClient
from shared.concurrency import run_all
from shared.contracts import AttentionItem, AttentionRequest, DiscrepancySpec
from shared.errors import InvalidInput, MPAError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AttentionMaps:
    """Flat grid × grid maps, row by row. None: not measured, or the model could not report it."""

    teacher: tuple[float, ...] | None = None
    student: tuple[float, ...] | None = None


class AttentionMeter:
    """Asks the attention probes of one job's models."""

    def __init__(self, teacher: Endpoint, student: Endpoint, spec: DiscrepancySpec) -> None:
        self._teacher, self._student, self._spec = teacher, student, spec

    async def measure(self, picture: Picture, prompt: str, answer: str) -> AttentionMaps:
        """Both maps for ``answer`` to ``prompt``. If a probe fails, the pair is kept without that map."""
        item = AttentionItem(image=picture.url, question=prompt, answer=answer)
        request = AttentionRequest(items=[item], grid=self._spec.grid)
        teacher, student = (self._ask(model, request, picture.rank) for model in (self._teacher, self._student))
        return AttentionMaps(*await run_all(teacher, student))

    async def _ask(self, model: Endpoint, request: AttentionRequest, rank: float) -> tuple[float, ...] | None:
        try:
            (found,) = (await model.attention(request, rank)).maps
        except RequestRefused as error:
            log.warning("A pair is kept without the attention map of the %s: %s", model.name, error.detail)
            return None
        return tuple(value for row in found.values for value in row)


async def check_probes(services: Sequence[tuple[str, HttpClient]]) -> None:
    """Raises InvalidInput that names the first (name, client) without an attention probe, or with the probe off."""
    for name, client in services:
        try:
            offered = (await client.health()).details.get("attention") is True
        except MPAError:
            offered = False
        if not offered:
            raise InvalidInput(
                f"discrepancies.attention: the {name} at {client.base_url} offers no attention probe at present: start "
                "it with MPA_ATTENTION_PROBE=true (remote endpoints offer none), or leave discrepancies.attention out."
            )
