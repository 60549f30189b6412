"""The attention of teacher and student on a kept pair: where each looks while it gives the teacher's answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from services.parity.endpoints.endpoint import RequestRefused, Upstream
from services.parity.images.picture import Picture
from shared.client import HttpClient
from shared.concurrency import run_all
from shared.contracts import AttentionItem, AttentionRequest, DiscrepancySpec
from shared.errors import InvalidInput, MPAError, UpstreamError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Looks:
    """Flat maps, row by row; None where a model could not say."""

    teacher: tuple[float, ...] | None
    student: tuple[float, ...] | None


class AttentionMeter:
    """Asks the probes of one job's models."""

    def __init__(self, teacher: Upstream, student: Upstream, spec: DiscrepancySpec) -> None:
        self._teacher, self._student, self._spec = teacher, student, spec

    async def measure(self, picture: Picture, prompt: str, answer: str) -> Looks:
        """Both maps for ``answer`` to ``prompt``. A probe that fails costs the pair its map, never the pair."""
        item = AttentionItem(image=picture.url, question=prompt, answer=answer)
        request = AttentionRequest(items=[item], grid=self._spec.grid)
        return Looks(
            *await run_all(
                self._ask(self._teacher, request, picture.rank), self._ask(self._student, request, picture.rank)
            )
        )

    async def _ask(self, model: Upstream, request: AttentionRequest, rank: float) -> tuple[float, ...] | None:
        try:
            (found,) = (await model.attention(request, rank)).maps
        except (RequestRefused, UpstreamError) as error:
            log.warning("No attention map of the %s: %s", model.name, error.detail)
            return None
        return tuple(value for row in found.values for value in row)


async def check_probes(services: Sequence[tuple[str, HttpClient]]) -> None:
    """Raises InvalidInput naming the (name, client) whose attention probe is off or that has none."""
    for name, client in services:
        try:
            offered = (await client.health()).details.get("attention") is True
        except MPAError:
            offered = False
        if not offered:
            raise InvalidInput(
                f"discrepancies.attention: the {name} at {client.base_url} offers no attention probe at present: start "
                "it with MPA_ATTENTION_PROBE=true (remote endpoints have none), or leave discrepancies.attention out."
            )
