"""The white-box probe of a service: a transformers copy of its model, loaded on first use and released when idle."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from shared.vlm.attention import AttentionMap, image_attention, load_probe, probed_layers
from shared.vlm.loading import LoadedModel
from shared.vlm.prompting import question_prompt

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Probed:
    """What the model ``version`` looked at, one map per item, and the layers that were averaged."""

    version: str
    layers: list[int]
    maps: list[AttentionMap]


class AttentionProbe:
    """``source`` names the version that serves and its folder; when it changes, the copy is loaded again."""

    def __init__(
        self,
        source: Callable[[], tuple[str, str | Path]],
        *,
        dtype: str,
        device: str,
        idle: float,
        torch_threads: int,
        trust_remote_code: bool = False,
    ) -> None:
        """``idle``: seconds without use after which the copy is released."""
        self._source, self._dtype, self._device, self._idle = source, dtype, device, idle
        self._trust_remote_code = trust_remote_code
        self._held: tuple[str, LoadedModel] | None = None
        self._lock = asyncio.Lock()
        self._unloading: asyncio.Task[None] | None = None
        self._pool = ThreadPoolExecutor(
            1, "attention-probe", initializer=torch.set_num_threads, initargs=(torch_threads,)
        )

    @property
    def loaded(self) -> bool:
        """Whether a copy is in memory."""
        return self._held is not None

    async def measure(
        self, items: Sequence[tuple[Image.Image, str, str]], grid: int, source: tuple[str, str | Path] | None = None
    ) -> Probed:
        """Maps of (image, question, answer) items, by the version that serves or that of ``source`` (version, folder).

        Raises BadCheckpoint, InvalidInput.
        """
        async with self._lock:
            if self._unloading is not None:
                self._unloading.cancel()
            try:
                return await asyncio.get_running_loop().run_in_executor(self._pool, self._measure, items, grid, source)
            finally:
                self._unloading = asyncio.create_task(self._unload_when_idle())

    async def aclose(self) -> None:
        if self._unloading is not None:
            self._unloading.cancel()
        await asyncio.to_thread(self._pool.shutdown)
        self._held = None

    def _measure(
        self, items: Sequence[tuple[Image.Image, str, str]], grid: int, source: tuple[str, str | Path] | None
    ) -> Probed:
        version, folder = source or self._source()
        if self._held is None or self._held[0] != version:
            self._held = None
            loaded = load_probe(
                folder, dtype=self._dtype, device=self._device, trust_remote_code=self._trust_remote_code
            )
            log.info("Loaded %s for the attention probe", version, extra={"checkpoint": version})
            self._held = (version, loaded)
        loaded = self._held[1]
        maps = [
            image_attention(loaded, question_prompt(loaded, image, question), answer, grid)
            for image, question, answer in items
        ]
        return Probed(version, probed_layers(int(loaded.model.config.get_text_config().num_hidden_layers)), maps)

    async def _unload_when_idle(self) -> None:
        await asyncio.sleep(self._idle)
        async with self._lock:
            self._held = None
            gc.collect()
            log.info("Released the attention probe's copy after %.0f s without use", self._idle)
