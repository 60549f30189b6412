"""The traffic tap: a sampled share of what users ask goes to the store, as an image pile that a job can name.

Layout: ``traffic/<student>/<hour>/<sha256>.<ending>``, one file an image, so an image that is asked about often is kept
once; beside it, where questions are wanted, ``<sha256>-<id>.json`` (image, question, checkpoint, time). Folders are
hours (UTC): what is too old, or too much, goes an hour at a time, the oldest first.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import io
import json
import logging
import random
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, Full, Queue
from typing import Any

from PIL import Image
from prometheus_client import CollectorRegistry, Counter

from services.student.engine import Question
from shared.contracts import ImagePart, TextPart
from shared.errors import InvalidInput
from shared.images import ImageLimits, decode_image, from_data_url
from shared.settings import StudentSettings
from shared.store import Store
from shared.traffic import HOUR_FORMAT, traffic_prefix

log = logging.getLogger(__name__)
QUEUE_SIZE = 256
HOUSEKEEPING_SECONDS = 60.0
ENDINGS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp", b"GIF8": "gif", b"BM": "bmp"}

Filter = Callable[[Image.Image, str | None], tuple[Image.Image, str | None] | None]
"""A privacy filter: gets an image and its question (None if questions are not wanted); returns what may be stored, or
None for nothing. Called on the tap's own thread."""


@dataclass(frozen=True)
class Sample:
    """What one request showed and asked."""

    images: tuple[str, ...]
    question: str
    checkpoint: str


class TrafficTap:
    """Takes samples without ever slowing or failing a request: what the writer cannot keep up with is left out."""

    def __init__(self, settings: StudentSettings, store: Store, metrics: CollectorRegistry) -> None:
        self._settings, self._store = settings, store
        self._filter = load_filter(settings.student_tap_filter)
        self._limits = ImageLimits.from_settings(settings)
        self._prefix = traffic_prefix(settings.student_name)
        self._queue: Queue[Sample | None] = Queue(QUEUE_SIZE)
        self._random = random.Random()
        self._samples = Counter("mpa_student_tap_samples", "Requests sampled by the tap", ["result"], registry=metrics)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic-tap", daemon=True)
        if self.on:
            self._thread.start()

    @property
    def on(self) -> bool:
        return self._settings.student_tap_share > 0

    def offer(self, question: Question, checkpoint: str) -> None:
        """Maybe take a sample; returns at once and never raises."""
        if not self.on or self._random.random() >= self._settings.student_tap_share:
            return
        sample = _sample(question, checkpoint)
        if not sample.images:
            return
        try:
            self._queue.put_nowait(sample)
        except Full:
            self._samples.labels("left_out").inc()

    async def aclose(self) -> None:
        """Write what waits, for a few seconds at most."""
        if self._thread.is_alive():
            self._stopping.set()
            with contextlib.suppress(Full):
                self._queue.put_nowait(None)
            await asyncio.to_thread(self._thread.join, 5.0)

    def _run(self) -> None:
        self._keep_house()
        while not (self._stopping.is_set() and self._queue.empty()):
            try:
                sample = self._queue.get(timeout=HOUSEKEEPING_SECONDS)
            except Empty:
                self._keep_house()
                continue
            if sample is not None:
                self._samples.labels(self._take(sample)).inc()

    def _take(self, sample: Sample) -> str:
        """Store a sample; returns what became of it. Whatever goes wrong, the tap goes on."""
        try:
            stored = [self._store_image(url, sample) for url in sample.images]
        except Exception:
            log.exception("A sample of the traffic could not be stored")
            return "failed"
        self._keep_house_sometimes()
        return "stored" if any(stored) else "filtered"

    def _store_image(self, url: str, sample: Sample) -> bool:
        data, question = from_data_url(url), sample.question if self._settings.student_tap_questions else None
        if self._filter is not None:
            kept = self._filter(decode_image(data, self._limits), question)
            if kept is None:
                return False
            data, question = _as_png(kept[0]), kept[1]
        now = datetime.now(UTC)
        digest = hashlib.sha256(data).hexdigest()
        folder = f"{self._prefix}/{now.strftime(HOUR_FORMAT)}"
        name = f"{digest}.{_ending(data)}"
        self._store.create(f"{folder}/{name}", data)
        if question is not None:
            record = {"image": name, "question": question, "checkpoint": sample.checkpoint, "at": now.isoformat()}
            self._store.write(f"{folder}/{digest}-{secrets.token_hex(6)}.json", json.dumps(record).encode())
        return True

    def _keep_house_sometimes(self) -> None:
        if self._random.random() < 0.05:
            self._keep_house()

    def _keep_house(self) -> None:
        """Delete hours that are too old, then the oldest ones while all together are too large."""
        try:
            oldest = datetime.now(UTC) - self._settings.student_tap_max_age
            sizes: dict[str, int] = {}
            for hour in self._store.list_dirs(self._prefix):
                if hour < oldest.strftime(HOUR_FORMAT):
                    self._store.delete(f"{self._prefix}/{hour}")
                else:
                    sizes[hour] = self._store.size(f"{self._prefix}/{hour}")
            for hour in sorted(sizes):
                if sum(sizes.values()) <= int(self._settings.student_tap_max_bytes):
                    break
                self._store.delete(f"{self._prefix}/{hour}")
                log.info("The traffic pile is full: deleted the hour %s", hour)
                del sizes[hour]
        except Exception:  # another replica may delete the same, and a store may be away
            log.exception("The traffic pile could not be tidied")


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
        raise InvalidInput(f"MPA_STUDENT_TAP_FILTER={name!r} is no function.")
    return found  # type: ignore[no-any-return]


def _sample(question: Question, checkpoint: str) -> Sample:
    """The images and the text of the last user turn that shows any, and all images before it."""
    images: list[str] = []
    text = ""
    for message in question.messages:
        if message.role != "user":
            continue
        parts = message.content if not isinstance(message.content, str) else []
        images += [part.image_url.url for part in parts if isinstance(part, ImagePart)]
        words = [part.text for part in parts if isinstance(part, TextPart)]
        text = message.content if isinstance(message.content, str) else " ".join(words)
    return Sample(tuple(images), text, checkpoint)


def _as_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _ending(data: bytes) -> str:
    return next((ending for magic, ending in ENDINGS.items() if data.startswith(magic)), "tif")
