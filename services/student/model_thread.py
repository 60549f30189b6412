"""The one thread that runs the model: batches by arrival, and takes its checkpoint anew for every batch."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch

from shared.errors import Busy, Unavailable
from shared.vlm.generation import Generated, generate_encoded
from shared.vlm.loading import LoadedModel
from shared.vlm.prompting import Encoded
from shared.vlm.sampling import Sampling

log = logging.getLogger(__name__)
RETRY_AFTER_SECONDS = 1.0


@dataclass(frozen=True)
class Serving:
    """A checkpoint in memory."""

    version: str
    loaded: LoadedModel


@dataclass
class AnswerWork:
    """One answer wanted. ``encode`` prepares the prompt for a checkpoint; ``encoded`` is what it gave for
    ``encoded_for``.
    """

    encode: Callable[[LoadedModel], Encoded]
    encoded: Encoded
    encoded_for: Serving
    sampling: Sampling
    done: Future[tuple[str, Generated]] = field(default_factory=Future)

    def prepared_for(self, serving: Serving) -> Encoded:
        """The prompt for ``serving``: encoded again if a swap came between arrival and batch."""
        return self.encoded if self.encoded_for is serving else self.encode(serving.loaded)


@dataclass
class CallWork:
    """Something else to do with the model between two batches."""

    call: Callable[[Serving], Any]
    done: Future[Any] = field(default_factory=Future)


Work = AnswerWork | CallWork


class ModelThread:
    """Runs until ``close``. ``serving`` may be replaced at any time: the next batch uses the new one.

    A batch holds what arrived within ``max_wait`` seconds, at most ``max_batch`` answers; more than ``queue_size``
    waiting is Busy.
    """

    def __init__(
        self, serving: Serving, *, max_batch: int, max_wait: float, queue_size: int, torch_threads: int
    ) -> None:
        self.serving = serving
        self._max_batch, self._max_wait, self._queue_size = max_batch, max_wait, queue_size
        self._torch_threads = torch_threads
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._carried: Work | None = None
        self._batch_lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="student-model", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        return self._queue.qsize()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    async def answers(self, works: Sequence[AnswerWork]) -> list[tuple[str, Generated]]:
        """Wait for answers; a caller that is cancelled takes its waiting work out of the queue."""
        self._refuse_if_full(len(works))
        for work in works:
            self._queue.put(work)
        return await _all(works)

    async def call(self, call: Callable[[Serving], Any]) -> Any:
        """Run ``call`` with the serving checkpoint, alone."""
        self._refuse_if_full(1)
        work = CallWork(call)
        self._queue.put(work)
        return await asyncio.wrap_future(work.done)

    def switch(self, serving: Serving) -> None:
        """Serve another checkpoint from the next batch on; returns when no batch runs on the old one any more."""
        self.serving = serving
        with self._batch_lock:
            pass

    def close(self) -> None:
        self._closing = True
        self._queue.put(None)
        self._thread.join(timeout=30)

    def _refuse_if_full(self, more: int) -> None:
        if self._closing:
            raise Unavailable("The student is shutting down: ask another replica.", retry_after=RETRY_AFTER_SECONDS)
        if self.queued + more > self._queue_size:
            raise Busy(
                f"{self.queued} requests wait already, the limit is {self._queue_size} "
                f"(MPA_STUDENT_QUEUE_SIZE): retry later.",
                retry_after=RETRY_AFTER_SECONDS,
            )

    def _run(self) -> None:
        torch.set_num_threads(self._torch_threads)
        while True:
            work = self._carried or self._queue.get()
            self._carried = None
            if work is None:
                break
            with self._batch_lock:
                if isinstance(work, CallWork):
                    self._run_call(work)
                else:
                    self._run_batch(self._gather(work))
        self._refuse_the_rest()

    def _gather(self, first: AnswerWork) -> list[AnswerWork]:
        """``first`` and what arrives within the wait; whatever cannot join is carried to the next turn."""
        batch = [first]
        deadline = time.monotonic() + self._max_wait
        while len(batch) < self._max_batch:
            try:
                work = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if not isinstance(work, AnswerWork):
                if work is None:
                    self._queue.put(None)
                else:
                    self._carried = work
                break
            batch.append(work)
        return [work for work in batch if work.done.set_running_or_notify_cancel()]

    def _run_batch(self, batch: list[AnswerWork]) -> None:
        if not batch:
            return
        serving = self.serving
        try:
            encoded = [work.prepared_for(serving) for work in batch]
            answers = generate_encoded(serving.loaded, encoded, [work.sampling for work in batch])
        except Exception as error:
            log.exception("A batch of %d answers failed", len(batch), extra={"checkpoint": serving.version})
            for work in batch:
                work.done.set_exception(error)
            return
        for work, answer in zip(batch, answers, strict=True):
            work.done.set_result((serving.version, answer))

    def _run_call(self, work: CallWork) -> None:
        if not work.done.set_running_or_notify_cancel():
            return
        try:
            work.done.set_result(work.call(self.serving))
        except Exception as error:
            work.done.set_exception(error)

    def _refuse_the_rest(self) -> None:
        while True:
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                return
            if work is not None and work.done.set_running_or_notify_cancel():
                work.done.set_exception(Unavailable("The student is shutting down.", retry_after=RETRY_AFTER_SECONDS))


async def _all(works: Sequence[AnswerWork]) -> list[tuple[str, Generated]]:
    try:
        return list(await asyncio.gather(*(asyncio.wrap_future(work.done) for work in works)))
    except asyncio.CancelledError:
        for work in works:
            work.done.cancel()
        raise
