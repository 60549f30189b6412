"""The fallback where vLLM has no wheel: transformers in this process, with one thread that batches by arrival."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable
from typing import Any, TypeVar

import torch
from starlette.responses import JSONResponse, Response, StreamingResponse

from shared.contracts import ChatMessage, ChatRequest, ImagePart
from shared.errors import Busy, MPAError, Unavailable
from shared.images import ImageLimits, decode_image, from_data_url
from shared.serving.answers import build_response, read_samplings, stream_events
from shared.serving.batcher import ModelThread
from shared.serving.prompts import check_length, encoder_of
from shared.serving.work import AnswerWork, Prepared, Serving
from shared.settings import TeacherSettings
from shared.sse import MEDIA_TYPE
from shared.vlm.loading import LoadedModel, load_model

MAX_BATCH = 32
MAX_WAIT = 0.005
MAX_QUEUED = 1024
RETRY_AFTER = 2.0
T = TypeVar("T")

log = logging.getLogger(__name__)


class TransformersTeacher:
    """Loads the model on a thread after ``start``. It is ready when the model is in memory."""

    def __init__(self, settings: TeacherSettings) -> None:
        self.reason = "The model has not been loaded yet."
        self._settings = settings
        self._limits = ImageLimits.from_settings(settings)
        self._timeout = settings.teacher_request_timeout.total_seconds()
        self._model: ModelThread | None = None
        self._stopping = False

    @property
    def ready(self) -> bool:
        return self._model is not None and not self._stopping

    @property
    def details(self) -> dict[str, Any]:
        return {"engine": "transformers", "queued": 0 if self._model is None else self._model.queued}

    async def start(self) -> None:
        self.reason = "The model is being loaded."
        # A daemon: a service that stops does not wait for the load.
        threading.Thread(target=self._load, name="teacher-load", daemon=True).start()

    async def stop(self) -> None:
        self._stopping, self.reason = True, "The teacher is shutting down."
        if self._model is not None:
            await asyncio.to_thread(self._model.close)

    async def answer(self, request: ChatRequest, body: bytes) -> Response:
        model = self._model
        if model is None or self._stopping:
            raise Unavailable(self.reason, retry_after=RETRY_AFTER)
        samplings = read_samplings(
            request,
            plain_text_only="the transformers engine cannot enforce a format: drop the field, or run the "
            "teacher with MPA_TEACHER_ENGINE=vllm.",
        )
        model.check_room()
        prepared = await asyncio.to_thread(self._prepare, model.serving, request.messages, samplings[0].max_tokens)
        if request.stream:
            pieces = model.stream(prepared, samplings)
            first = await self._within_timeout(anext(pieces))
            return StreamingResponse(stream_events(request, first, pieces), media_type=MEDIA_TYPE)
        _, answers = await self._within_timeout(model.answers(AnswerWork(prepared, samplings)))
        return JSONResponse(build_response(request, answers).model_dump(mode="json"))

    async def metrics(self) -> bytes:
        return b""

    async def _within_timeout(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await work
        except TimeoutError as error:
            words = f"The teacher did not answer within {self._timeout:.0f} s (MPA_TEACHER_REQUEST_TIMEOUT)."
            raise Unavailable(words, retry_after=RETRY_AFTER) from error

    def _prepare(self, serving: Serving, messages: list[ChatMessage], max_tokens: int) -> Prepared:
        parts = [part for m in messages if isinstance(m.content, list) for part in m.content]
        urls = [part.image_url.url for part in parts if isinstance(part, ImagePart)]
        encode = encoder_of(messages, [decode_image(from_data_url(url), self._limits) for url in urls])
        encoded = encode(serving.loaded)
        longest = min(serving.loaded.max_length, self._settings.teacher_max_model_len)
        check_length(encoded.length, max_tokens, longest)
        return Prepared(encode, encoded, serving)

    def _load(self) -> None:
        try:
            loaded = self._load_model()
        except MPAError as error:
            self.reason = f"The model cannot be loaded: {error.detail}"
            log.error("%s", self.reason)
            return
        self.reason = ""
        self._model = ModelThread(
            Serving("", loaded),
            service="teacher",
            max_batch=MAX_BATCH,
            max_wait=MAX_WAIT,
            check_room=_check_room,
            torch_threads=self._settings.torch_threads,
        )

    def _load_model(self) -> LoadedModel:
        torch.set_num_threads(self._settings.torch_threads)  # counts for this thread only
        dtype = "float32" if self._settings.teacher_dtype == "auto" else self._settings.teacher_dtype
        trusted = self._settings.trust_remote_code
        return load_model(self._settings.teacher_model, dtype=dtype, device="auto", trust_remote_code=trusted)


def _check_room(waiting: int) -> None:
    if waiting >= MAX_QUEUED:
        raise Busy(f"{waiting} requests are waiting, and no more are accepted: retry later.", retry_after=RETRY_AFTER)
