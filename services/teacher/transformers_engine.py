"""The fall-back where vLLM has no wheel: transformers in this process, one thread that batches by arrival."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch
from starlette.responses import JSONResponse, Response, StreamingResponse

from services.teacher.answers import build_response, read_samplings, stream_events
from shared.contracts import ChatMessage, ChatRequest, ImagePart
from shared.errors import Busy, InvalidInput, MPAError, Unavailable
from shared.images import ImageLimits, decode_image, from_data_url
from shared.settings import TeacherSettings
from shared.vlm.generation import Generated, generate_encoded
from shared.vlm.loading import LoadedModel, load_model
from shared.vlm.prompting import Encoded, encode, render
from shared.vlm.sampling import Sampling

MAX_BATCH = 32
MAX_WAIT = 0.005
MAX_QUEUED = 1024
JOIN_SECONDS = 5.0
RETRY_AFTER = 2.0

log = logging.getLogger(__name__)


@dataclass
class Work:
    """One answer wanted."""

    encoded: Encoded
    sampling: Sampling
    done: Future[Generated] = field(default_factory=Future)


class TransformersEngine:
    """Loads the model in its thread after ``start``; ready when it has."""

    def __init__(self, settings: TeacherSettings) -> None:
        self.ready = False
        self.reason = "The model has not been loaded."
        self._settings = settings
        self._limits = ImageLimits.from_settings(settings)
        self._timeout = settings.teacher_request_timeout.total_seconds()
        self._loaded: LoadedModel | None = None
        self._works: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="teacher-model", daemon=True)

    @property
    def details(self) -> dict[str, Any]:
        return {"engine": "transformers", "queued": self._works.qsize()}

    async def start(self) -> None:
        self.reason = "The model is being loaded."
        self._thread.start()

    async def stop(self) -> None:
        self.ready, self.reason = False, "The teacher is shutting down."
        self._works.put(None)
        await asyncio.to_thread(self._thread.join, JOIN_SECONDS)

    async def answer(self, request: ChatRequest, body: bytes) -> Response:
        loaded = self._loaded
        if not self.ready or loaded is None:
            raise Unavailable(self.reason, retry_after=RETRY_AFTER)
        samplings = read_samplings(request)
        if self._works.qsize() + len(samplings) > MAX_QUEUED:
            raise Busy(f"{MAX_QUEUED} answers are waited for already: retry later.", retry_after=RETRY_AFTER)
        encoded = await asyncio.to_thread(self._encode, loaded, request.messages, samplings[0].max_tokens)
        works = [Work(encoded, sampling) for sampling in samplings]
        for work in works:
            self._works.put(work)
        answers = await self._all(works)
        if request.stream:
            return StreamingResponse(stream_events(request, answers), media_type="text/event-stream")
        return JSONResponse(build_response(request, answers).model_dump(mode="json"))

    async def metrics(self) -> bytes:
        return b""

    async def _all(self, works: list[Work]) -> list[Generated]:
        """Wait for all; whoever stops waiting takes the work out of the queue."""
        try:
            async with asyncio.timeout(self._timeout):
                return list(await asyncio.gather(*(asyncio.wrap_future(work.done) for work in works)))
        except TimeoutError as error:
            words = f"The teacher did not answer within {self._timeout:.0f} s (MPA_TEACHER_REQUEST_TIMEOUT)."
            raise Unavailable(words, retry_after=RETRY_AFTER) from error
        finally:
            for work in works:
                work.done.cancel()

    def _encode(self, loaded: LoadedModel, messages: list[ChatMessage], max_tokens: int) -> Encoded:
        parts = [part for m in messages if isinstance(m.content, list) for part in m.content]
        urls = [part.image_url.url for part in parts if isinstance(part, ImagePart)]
        images = [decode_image(from_data_url(url), self._limits) for url in urls]
        encoded = encode(loaded, render(loaded, messages, images))
        longest = min(loaded.max_length, self._settings.teacher_max_model_len)
        if encoded.length + max_tokens > longest:
            raise InvalidInput(
                f"The prompt has {encoded.length} tokens and up to {max_tokens} may be answered; together at most "
                f"{longest} are possible: shorten the prompt or lower max_tokens."
            )
        return encoded

    def _run(self) -> None:
        torch.set_num_threads(self._settings.torch_threads)
        try:
            dtype = "float32" if self._settings.teacher_dtype == "auto" else self._settings.teacher_dtype
            trust = self._settings.trust_remote_code
            self._loaded = load_model(self._settings.teacher_model, dtype=dtype, device="auto", trust_remote_code=trust)
        except MPAError as error:
            self.reason = f"The model cannot be loaded: {error.detail}"
            log.error("%s", self.reason)
            return
        self.ready, self.reason = True, ""
        while (first := self._works.get()) is not None:
            self._answer_batch(self._loaded, self._gather(first))
        self._refuse_the_rest()

    def _gather(self, first: Work) -> list[Work]:
        """``first`` and what arrives within the wait, less what nobody waits for any more."""
        batch, deadline = [first], time.monotonic() + MAX_WAIT
        while len(batch) < MAX_BATCH:
            try:
                work = self._works.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if work is None:
                self._works.put(None)
                break
            batch.append(work)
        return [work for work in batch if work.done.set_running_or_notify_cancel()]

    def _answer_batch(self, loaded: LoadedModel, batch: list[Work]) -> None:
        if not batch:
            return
        try:
            answers = generate_encoded(loaded, [w.encoded for w in batch], [w.sampling for w in batch])
        except Exception as error:  # one bad batch must not end the thread that all later ones need
            log.exception("A batch of %d answers failed", len(batch))
            for work in batch:
                work.done.set_exception(error)
            return
        for work, answer in zip(batch, answers, strict=True):
            work.done.set_result(answer)

    def _refuse_the_rest(self) -> None:
        while not self._works.empty():
            work = self._works.get()
            if work is not None and work.done.set_running_or_notify_cancel():
                work.done.set_exception(Unavailable("The teacher is shutting down.", retry_after=RETRY_AFTER))
