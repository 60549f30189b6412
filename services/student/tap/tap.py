"""The traffic tap: a share of what users ask goes to the store, as an image pile that a job can name."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import io
import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any

from PIL import Image
from prometheus_client import CollectorRegistry, Counter

from services.student.engines.base import Conversation
from services.student.tap.pile import TIDY_SECONDS, TrafficPile
from shared.contracts import ImagePart, TextPart
from shared.errors import InvalidInput
from shared.images import ImageLimits, decode_image, from_data_url
from shared.settings import StudentSettings
from shared.store import Store

log = logging.getLogger(__name__)
QUEUE_SIZE = 256
QUEUE_BYTES = 64 * 1024 * 1024

Filter = Callable[[Image.Image, str | None], tuple[Image.Image, str | None] | None]
"""A privacy filter. It gets an image and its question (None if questions are not kept) and returns what may be stored,
or None for nothing. It is called on the tap's own thread."""


@dataclass(frozen=True)
class Tapped:
    """What one request showed and asked."""

    images: tuple[str, ...]
    question: str
    checkpoint: str

    @property
    def size(self) -> int:
        return sum(map(len, self.images))


class TrafficTap:
    """Keeps requests without ever slowing or failing one: what the writer cannot keep up with is left out."""

    def __init__(self, settings: StudentSettings, store: Store, metrics: CollectorRegistry) -> None:
        self._settings = settings
        self._filter = load_filter(settings.student_tap_filter)
        self._limits = ImageLimits.from_settings(settings)
        self._pile = TrafficPile(
            store,
            settings.student_name,
            max_bytes=int(settings.student_tap_max_bytes),
            max_age=settings.student_tap_max_age,
        )
        self._queue: Queue[Tapped | None] = Queue(QUEUE_SIZE)
        self._waiting_bytes = 0
        self._waiting_lock = threading.Lock()
        self._random = random.Random()
        self._samples = Counter("mpa_student_tap_samples", "Requests sampled by the tap", ["result"], registry=metrics)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic-tap", daemon=True)
        if self.on:
            self._thread.start()

    @property
    def on(self) -> bool:
        return self._settings.student_tap_share > 0

    def offer(self, conversation: Conversation, checkpoint: str) -> None:
        """Keep this request if it belongs to the share. Returns at once and never raises."""
        if not self.on or self._random.random() >= self._settings.student_tap_share:
            return
        tapped = _tapped(conversation, checkpoint)
        if not tapped.images:
            return
        if not self._enqueue(tapped):
            self._samples.labels("left_out").inc()

    async def aclose(self) -> None:
        """Write what still waits, for a few seconds at most."""
        if self._thread.is_alive():
            self._stopping.set()
            with contextlib.suppress(Full):
                self._queue.put_nowait(None)
            await asyncio.to_thread(self._thread.join, 5.0)

    def _enqueue(self, tapped: Tapped) -> bool:
        with self._waiting_lock:
            if self._waiting_bytes + tapped.size > QUEUE_BYTES:
                return False
            try:
                self._queue.put_nowait(tapped)
            except Full:
                return False
            self._waiting_bytes += tapped.size
            return True

    def _run(self) -> None:
        self._pile.tidy()
        while not (self._stopping.is_set() and self._queue.empty()):
            try:
                tapped = self._queue.get(timeout=TIDY_SECONDS)
            except Empty:
                self._pile.tidy()
                continue
            if tapped is not None:
                self._samples.labels(self._take(tapped)).inc()
                with self._waiting_lock:
                    self._waiting_bytes -= tapped.size

    def _take(self, tapped: Tapped) -> str:
        """Store what was tapped; returns the result. Whatever goes wrong, the tap goes on."""
        try:
            results = {self._store_image(url, tapped) for url in tapped.images}
        except Exception:
            log.exception("A tapped request could not be stored")
            return "failed"
        return next(result for result in ("stored", "full", "filtered") if result in results)

    def _store_image(self, url: str, tapped: Tapped) -> str:
        data, question = from_data_url(url), tapped.question if self._settings.student_tap_questions else None
        if self._filter is not None:
            kept = self._filter(decode_image(data, self._limits), question)
            if kept is None:
                return "filtered"
            data, question = _as_png(kept[0]), kept[1] if question is not None else None
        return "stored" if self._pile.put(data, question, tapped.checkpoint) else "full"


def without_metadata(image: Image.Image, question: str | None) -> tuple[Image.Image, str | None]:
    """A ready-made filter. Filtered images are rewritten from their pixels, without location, camera or comments."""
    return image, question


def load_filter(name: str) -> Filter | None:
    """The function that ``module:function`` names; None for an empty name. Raises InvalidInput."""
    if not name:
        return None
    module, _, function = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidInput(
            f"MPA_STUDENT_TAP_FILTER={name!r} cannot be imported ({error}): write module:function, importable where "
            "the student service runs."
        ) from error
    if not callable(found):
        raise InvalidInput(f"MPA_STUDENT_TAP_FILTER={name!r} is not callable: name a function.")
    return found  # type: ignore[no-any-return]


def _tapped(conversation: Conversation, checkpoint: str) -> Tapped:
    """The images and the text of the last user turn that shows any, and all images before it."""
    images: list[str] = []
    text = ""
    for message in conversation.messages:
        if message.role != "user":
            continue
        parts = message.content if not isinstance(message.content, str) else []
        images += [part.image_url.url for part in parts if isinstance(part, ImagePart)]
        words = [part.text for part in parts if isinstance(part, TextPart)]
        text = message.content if isinstance(message.content, str) else " ".join(words)
    return Tapped(tuple(images), text, checkpoint)


def _as_png(image: Image.Image) -> bytes:
    bare = image.copy()
    bare.info = {}  # else Pillow writes some of the original's metadata again
    file = io.BytesIO()
    bare.save(file, "PNG")
    return file.getvalue()
