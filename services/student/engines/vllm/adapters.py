"""The LoRA adapters that vLLM holds beside its weights, and which of them requests still use."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from services.student.engines.checkpoint import check_stored_finite
from services.student.engines.vllm.server import VllmChild
from shared.checkpoints.adapters import ADAPTER_FOLDER, ADAPTER_WEIGHTS
from shared.checkpoints.files import CARD_NAME, read_card
from shared.contracts import CardAdapter
from shared.errors import InvalidInput, MPAError, Unavailable

log = logging.getLogger(__name__)
IN_USE = 3
"""Adapters at once: the active one, the previous or next one, and a canary's. Fewer than vLLM's `ADAPTER_SLOTS`."""
POLL = 0.05
GIVE_UP_FORGETTING = 60.0


class Unadaptable(MPAError):
    """This checkpoint cannot be served as an adapter. It may still be served as whole weights."""

    status, slug, title = 422, "unadaptable-checkpoint", "The checkpoint cannot be served as an adapter"


@dataclass(eq=False)
class Served:
    """What requests to vLLM name as ``model``: its weights, or an adapter of them with vLLM's ``number``."""

    version: str
    folder: Path
    model: str
    number: int | None = None
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    _running: int = 0

    def __post_init__(self) -> None:
        self.idle.set()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        self._running += 1
        self.idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self.idle.set()


def adapter_of(folder: Path) -> CardAdapter | None:
    """The adapter that the card of the checkpoint in ``folder`` describes; None if there is none."""
    return read_card(folder).adapter if (folder / CARD_NAME).exists() else None


class Adapters:
    """Loads, reloads and drops adapters. Each load has a new name, because vLLM caches by name."""

    def __init__(self, child: VllmChild, student: str) -> None:
        self._child, self._student = child, student
        self._held: list[Served] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._changing = asyncio.Lock()

    @property
    def full(self) -> bool:
        """Whether one must be dropped before another can be loaded."""
        return len(self._held) + len(self._leaving) >= IN_USE

    def holds(self, served: Served) -> bool:
        """Whether requests may still name it."""
        return served in self._held

    async def load(self, version: str, folder: Path) -> Served:
        """Load the adapter of the checkpoint in ``folder`` while requests go on.

        Raises Unadaptable if vLLM cannot take it. Then nothing has changed.
        """
        await asyncio.to_thread(check_stored_finite, folder / ADAPTER_FOLDER / ADAPTER_WEIGHTS)
        async with self._changing:
            served = Served(version, folder, self._new_name(version))
            await self._room()
            await self._load(served)
            self._held.append(served)
        return served

    def drop(self, served: Served) -> None:
        """Take it out of memory when its running requests are done. No new request may name it."""
        if served in self._held:
            self._held.remove(served)
            task = asyncio.create_task(self._unload(served))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def restore(self) -> str | None:
        """Load all held adapters again, under new names, into a vLLM that has lost them. Returns what went wrong."""
        async with self._changing:
            for served in list(self._held):
                with suppress(MPAError):  # a restarted vLLM does not know it
                    await self._child.unload_adapter(served.model)
                served.model = self._new_name(served.version)
                try:
                    await self._load(served)
                except MPAError as error:
                    return f"cannot load the adapter of {served.version} again ({error.detail})"
        return None

    def forget_all(self) -> None:
        """Drop all: the weights that they adapt have been replaced."""
        for served in list(self._held):
            self.drop(served)

    async def close(self) -> None:
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    def _new_name(self, version: str) -> str:
        return f"{self._student}@{version}#{next(self._numbers)}"

    async def _load(self, served: Served) -> None:
        folder = served.folder.absolute() / ADAPTER_FOLDER
        if problem := await self._child.why_not_adapter(folder):
            raise Unadaptable(f"The adapter of {served.version} cannot be loaded: {problem}.")
        before = set(await self._child.adapters())
        try:
            await self._child.load_adapter(served.model, folder)
        except InvalidInput as error:
            raise Unadaptable(f"The adapter of {served.version} cannot be loaded: {error.detail}.") from error
        new = set(await self._child.adapters()) - before
        served.number = max(new, default=None)

    async def _room(self) -> None:
        """Wait until vLLM has room for another, and forget adapters that abandoned requests brought back."""
        deadline = time.monotonic() + GIVE_UP_FORGETTING
        while len(present := await self._child.adapters()) >= IN_USE:
            if time.monotonic() > deadline:
                raise Unadaptable(f"vLLM still answers with {len(present)} other adapters.")
            known = {served.number for served in self._held}
            if not self._leaving:
                for number in set(present) - known:
                    await self._child.forget_adapter(number)
            await asyncio.sleep(POLL)

    async def _unload(self, served: Served) -> None:
        await served.idle.wait()
        try:
            await self._child.unload_adapter(served.model)
            async with asyncio.timeout(GIVE_UP_FORGETTING):
                while served.number is not None and await self._child.forget_adapter(served.number):
                    await asyncio.sleep(POLL)  # an abandoned request still runs
        except (TimeoutError, Unavailable) as error:
            log.warning("The adapter %s may still be in vLLM's memory: %s", served.model, error)
        except MPAError as error:
            log.debug("vLLM no longer knows %s: %s", served.model, error.detail)
