"""The student on Hugging Face transformers with the model in a separate process.

Requests are parsed, images decoded and prompts tokenised here. The process gets tensors and returns answers. So a small
model never waits for this interpreter, and a model that dies (out of memory, a crash in a kernel) does not take the
service with it: requests in flight get a 503, and the process comes back with the checkpoint that it served.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from services.student.engines.base import UNWATCHED, Answers, Conversation, Scored, Watcher, check_room
from services.student.engines.low_priority import in_quiet_thread
from services.student.engines.process.child import ModelChild
from services.student.engines.process.wire import (
    Json,
    Stale,
    prompt_head,
    prompt_payload,
    read_answer,
    read_score,
    sampling_head,
)
from shared.backoff import Backoff, RestartDelays
from shared.contracts import SmokeAnswer
from shared.errors import BadCheckpoint, MPAError, Unavailable
from shared.serving.prompts import check_length, encoder_of
from shared.serving.work import StreamPiece
from shared.settings import StudentSettings
from shared.vlm.loading import load_processor, processor_digest
from shared.vlm.prompting import Encoded
from shared.vlm.sampling import Sampling

log = logging.getLogger(__name__)
TRIES = 20
"""A request is encoded at most this many times: again after each swap to another processor."""
CANCEL_SECONDS = 10.0
RESTART_BACKOFF = Backoff(0.5, 30.0)
STABLE_SECONDS = 30.0
SENT_SETTINGS = {
    "torch_threads",
    "trust_remote_code",
    "log_level",
    "log_format",
    "student_dtype",
    "student_device",
    "student_compile",
    "student_max_batch",
    "student_max_wait",
    "student_queue_size",
    "student_feature_cache",
    "student_swap",
    "student_keep_previous",
}


@dataclass(frozen=True)
class CurrentProcessor:
    """Prepares prompts: a processor, the digest of its files, and the model's limit in tokens."""

    processor: Any
    digest: str
    max_length: int


@dataclass(frozen=True)
class Ready:
    """Prompts on their way to the process."""

    prompts: tuple[Encoded, ...]
    payload: bytes
    digest: str


class ProcessEngine:
    """Implements `Engine`."""

    def __init__(self, settings: StudentSettings, version: str, folder: Path, watcher: Watcher) -> None:
        self._settings, self._version, self._folder = settings, version, folder
        self._watcher = watcher
        self._preparing = ThreadPoolExecutor(
            2, "student-prepare", initializer=torch.set_num_threads, initargs=(settings.torch_threads,)
        )
        self._in_preparation = 0
        self._processors: dict[str, Any] = {}
        self._folders = {version: folder}
        self._processor: CurrentProcessor | None = None
        self._child: ModelChild
        self._score_trouble = ""
        self._trouble = "The model's process is starting."
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        settings: StudentSettings,
        version: str,
        folder: Path,
        smoke: SmokeAnswer | None,
        watcher: Watcher = UNWATCHED,
    ) -> ProcessEngine:
        """An engine that serves ``folder``; raises BadCheckpoint."""
        engine = cls(settings, version, folder, watcher)
        try:
            await engine._spawn(smoke)
        except BaseException:
            engine._preparing.shutdown(wait=False)
            raise
        engine._watching = asyncio.create_task(engine._watch())
        return engine

    @property
    def version(self) -> str:
        return self._version

    @property
    def queued(self) -> int:
        return self._in_preparation + self._child.waiting

    @property
    def alive(self) -> bool:
        return not self._trouble and not self._child.ended.is_set()

    @property
    def trouble(self) -> str:
        return "" if self.alive else self._trouble or "The model's process has ended and is being restarted."

    @property
    def score_trouble(self) -> str:
        return self._score_trouble

    async def answer(self, conversation: Conversation, samplings: Sequence[Sampling]) -> Answers:
        for _ in range(TRIES):
            ready = await self._prepare([conversation], max(s.max_tokens for s in samplings))
            with suppress(Stale):
                reply = await self._child.call(_asked(ready, samplings, stream=False), ready.payload)
                return Answers(reply["version"], [read_answer(one) for one in reply["answers"]])
        raise _changing()

    async def stream(self, conversation: Conversation, samplings: Sequence[Sampling]) -> AsyncGenerator[StreamPiece]:
        for _ in range(TRIES):
            ready = await self._prepare([conversation], max(s.max_tokens for s in samplings))
            pieces: asyncio.Queue[StreamPiece | None] = asyncio.Queue()
            asked = self._child.call(_asked(ready, samplings, stream=True), ready.payload, pieces.put_nowait)
            answering = asyncio.create_task(asked)
            answering.add_done_callback(lambda _, pieces=pieces: pieces.put_nowait(None))  # type: ignore[misc]
            try:
                while (piece := await pieces.get()) is not None:
                    yield piece
                with suppress(Stale):  # only raised before the first piece
                    await answering
                    return
            finally:
                answering.cancel()
        raise _changing()

    async def score(self, items: Sequence[tuple[Conversation, Sequence[str]]]) -> Scored:
        for _ in range(TRIES):
            ready = await self._prepare([conversation for conversation, _ in items], 0)
            head = {
                "do": "score",
                "digest": ready.digest,
                "prompts": [prompt_head(one) for one in ready.prompts],
                "answers": [list(answers) for _, answers in items],
            }
            with suppress(Stale):
                reply = await self._child.call(head, ready.payload)
                return Scored(reply["version"], [[read_score(one) for one in row] for row in reply["scores"]])
        raise _changing()

    async def swap(self, version: str, folder: Path, smoke: SmokeAnswer | None) -> None:
        self._folders[version] = folder
        await self._read_processor(folder)  # before the switch, after which prompts need it
        head = {"do": "swap", "version": version, "folder": str(folder), "smoke": _dumped(smoke)}
        await self._child.call_whole(head, CANCEL_SECONDS)

    async def switch_back(self, version: str) -> bool:
        head = {"do": "switch_back", "version": version}
        return bool((await self._child.call_whole(head, CANCEL_SECONDS))["switched"])

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self._trouble = "The student is shutting down."
        await self._child.close()
        self._preparing.shutdown(wait=False)

    async def _prepare(self, conversations: Sequence[Conversation], max_tokens: int) -> Ready:
        self._check_room()
        processor = self._processor
        encoders = [encoder_of(conversation.messages, conversation.images) for conversation in conversations]
        assert processor is not None  # set when the engine was started

        def prepare() -> Ready:
            prompts = tuple(encoder(processor) for encoder in encoders)
            for encoded in prompts:
                check_length(encoded.length, max_tokens, processor.max_length)
            return Ready(prompts, prompt_payload(prompts), processor.digest)

        self._in_preparation += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._preparing, prepare)
        finally:
            self._in_preparation -= 1

    def _check_room(self) -> None:
        if not self.alive:
            raise Unavailable(f"{self.trouble} Ask again.", retry_after=2.0)
        check_room(self.queued, self._settings.student_queue_size)

    # ------------------------------------------------------------ checkpoints

    def _serves(self, version: str, digest: str, max_length: int) -> None:
        """Note what the process serves. What a switch back to the previous checkpoint needs is kept."""
        if self._processor is not None:
            if version == self._version:
                return
            log.info("Switched from %s to %s", self._version, version, extra={"checkpoint": version})
            digests, versions = (digest, self._processor.digest), (version, self._version)
            self._processors = {one: self._processors[one] for one in digests}
            self._folders = {one: self._folders[one] for one in versions}
        self._version, self._folder = version, self._folders[version]
        self._processor = CurrentProcessor(self._processors[digest], digest, max_length)

    async def _read_processor(self, folder: Path) -> None:
        digest = await asyncio.to_thread(processor_digest, folder)
        if digest not in self._processors:
            trusted = self._settings.trust_remote_code
            self._processors[digest] = await in_quiet_thread(load_processor, folder, trust_remote_code=trusted)

    async def _spawn(self, smoke: SmokeAnswer | None) -> None:
        version, folder = self._version, self._folder
        await self._read_processor(folder)
        child = ModelChild(self._watcher, self._serves)
        await child.spawn()
        settings = self._settings.model_dump(mode="json", include=SENT_SETTINGS)
        start = {"do": "start", "settings": settings, "version": version, "folder": str(folder)}
        try:
            self._score_trouble = (await child.call({**start, "smoke": _dumped(smoke)}))["score_trouble"]
        except Unavailable as error:
            ending, lines = await child.how_it_ended(), "\n".join(child.last_lines())
            raise BadCheckpoint(
                f"{folder}: the model's process {ending} while it loaded the checkpoint. If its last lines do not say "
                f"why, the machine may have run out of memory. They are:\n{lines}"
            ) from error
        except BaseException:
            await child.kill()
            raise
        self._child, self._trouble = child, ""

    async def _watch(self) -> None:
        """Restart the process whenever it ends, with the checkpoint that it served. The delay grows while runs are
        short: a request that kills the process may be sent again and again.
        """
        delays = RestartDelays(RESTART_BACKOFF, STABLE_SECONDS)
        while True:
            started = time.monotonic()
            await self._child.ended.wait()
            self._trouble = "The model's process has ended and is being restarted."
            delay = delays.after_run(time.monotonic() - started)
            ending = await self._child.how_it_ended()
            log.error(
                "The model's process %s; restarting it in %.1f s", ending, delay, extra={"checkpoint": self._version}
            )
            while self._trouble:
                await asyncio.sleep(delay)
                try:
                    await self._spawn(None)
                except Exception as error:
                    detail = error.detail if isinstance(error, MPAError) else repr(error)
                    self._trouble = f"The model's process cannot be restarted: {detail}"
                    log.error("%s", self._trouble, extra={"checkpoint": self._version})
                    delay = delays.after_run(0.0)


def _asked(ready: Ready, samplings: Sequence[Sampling], *, stream: bool) -> Json:
    return {
        "do": "answer",
        "digest": ready.digest,
        "prompt": prompt_head(ready.prompts[0]),
        "samplings": [sampling_head(sampling) for sampling in samplings],
        "stream": stream,
    }


def _dumped(smoke: SmokeAnswer | None) -> Json | None:
    return None if smoke is None else smoke.model_dump(mode="json")


def _changing() -> Unavailable:
    return Unavailable("The checkpoint changed repeatedly during this request: ask again.", retry_after=1.0)
