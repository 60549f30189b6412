"""The one thread that runs a model. It batches requests by arrival and chooses the checkpoint again for every batch."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from shared.errors import MPAError, Unavailable
from shared.serving.work import AnswerWork, CallWork, Fitting, Serving, StreamPiece
from shared.vlm.generation import Generated, generate_encoded
from shared.vlm.sampling import Sampling

log = logging.getLogger(__name__)
RETRY_AFTER_SECONDS = 1.0
Work = AnswerWork | CallWork


class ModelThread:
    """Runs until ``close``. ``switch`` gives it another checkpoint, which the next batch uses.

    A batch begins ``max_wait`` seconds after its first request arrived, or at once if that request has waited that long
    for the previous batch. It holds at most ``max_batch`` answers; a request for more is a batch of its own.
    ``check_room`` gets the number of requests that wait and raises Busy if that is the limit. ``on_batch`` gets the
    number of answers in a batch, and the seconds that each of its requests waited. ``service`` is the name that errors
    and the thread use, such as ``student``.
    """

    def __init__(
        self,
        serving: Serving,
        *,
        service: str,
        max_batch: int,
        max_wait: float,
        check_room: Callable[[int], None],
        torch_threads: int,
        on_batch: Callable[[int, Sequence[float]], None] = lambda _answers, _waits: None,
    ) -> None:
        self._serving, self._service = serving, service
        self._max_batch, self._max_wait, self._check_room = max_batch, max_wait, check_room
        self._torch_threads, self._on_batch = torch_threads, on_batch
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._carried: Work | None = None
        self._turn_lock = threading.Lock()
        self._turn_over = threading.Event()
        self._turn_over.set()
        self._closing = self._aborted = False
        self._thread = threading.Thread(target=self._run, name=f"{service}-model", daemon=True)
        self._thread.start()

    @property
    def serving(self) -> Serving:
        return self._serving

    @property
    def queued(self) -> int:
        return self._queue.qsize() + (self._carried is not None)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, work: AnswerWork) -> None:
        """Queue ``work``; its ``done`` gets the result. Raises Busy, Unavailable."""
        self._enqueue(work)

    async def answers(self, work: AnswerWork) -> tuple[str, list[Generated]]:
        """Wait for (version, answers). A caller that is cancelled abandons its work."""
        self.submit(work)
        try:
            return await asyncio.wrap_future(work.done)
        except asyncio.CancelledError:
            work.abandon()
            raise

    async def stream(self, prepared: Fitting, samplings: Sequence[Sampling]) -> AsyncGenerator[StreamPiece]:
        """The answers piece by piece, as they are decoded. Closing the generator ends the work."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[StreamPiece | None] = asyncio.Queue()

        def on_piece(piece: StreamPiece) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        answering = asyncio.create_task(self.answers(AnswerWork(prepared, samplings, on_piece)))
        answering.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            await answering
        finally:
            answering.cancel()

    async def call(self, call: Callable[[Serving], Any], *, always: bool = False) -> Any:
        """Run ``call`` between two batches with the serving checkpoint. ``always``: even if the queue is full."""
        work = CallWork(call)
        self._enqueue(work, always=always)
        return await asyncio.wrap_future(work.done)

    def switch(self, serving: Serving) -> threading.Event:
        """Serve another checkpoint from the next batch on. The event is set when no batch runs on the old one."""
        with self._turn_lock:
            self._serving = serving
            return self._turn_over

    def abort(self) -> None:
        """Run no further batch, because the model must not answer. May be called on the thread itself."""
        self._aborted = self._closing = True
        self._queue.put(None)

    def check_room(self, coming: int = 0) -> None:
        """Raises Busy if the queue is full, counting ``coming`` requests that are about to join it."""
        self._check_room(self.queued + coming)

    def close(self) -> None:
        """Finish the running batch. Requests that wait get Unavailable."""
        self._closing = True
        self._queue.put(None)
        self._thread.join(timeout=30)

    def _enqueue(self, work: Work, *, always: bool = False) -> None:
        if self._closing or not self.alive:
            raise self._shutting_down()
        if not always:
            self.check_room()
        self._queue.put(work)

    def _run(self) -> None:
        torch.set_num_threads(self._torch_threads)
        while True:
            work = self._carried or self._queue.get()
            if work is None or self._aborted:
                self._carried = work
                break
            self._carried = None
            if isinstance(work, CallWork):
                self._run_call(work)
            else:
                self._run_batch(self._gather(work))
        self._refuse_the_rest()

    @contextmanager
    def _turn(self) -> Iterator[Serving]:
        over = threading.Event()
        with self._turn_lock:
            self._turn_over, serving = over, self._serving
        try:
            yield serving
        finally:
            over.set()

    def _gather(self, first: AnswerWork) -> list[AnswerWork]:
        """``first`` and what arrives within the wait. Work that does not fit is carried to the next turn."""
        batch, size = [first], len(first.samplings)
        deadline = first.arrived + self._max_wait
        while size < self._max_batch:
            try:
                work = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if work is None:
                self._queue.put(None)
                break
            if isinstance(work, CallWork) or size + len(work.samplings) > self._max_batch:
                self._carried = work
                break
            batch.append(work)
            size += len(work.samplings)
        return [work for work in batch if work.done.set_running_or_notify_cancel()]

    def _run_batch(self, batch: Sequence[AnswerWork]) -> None:
        if not batch:
            return
        with self._turn() as serving:
            try:
                self._answer(serving, batch)
            except Exception as error:
                _log(error, f"A batch of {len(batch)} requests failed", serving)
                self._answer_each(serving, [work for work in batch if not work.done.done()], error)

    def _answer_each(self, serving: Serving, rest: Sequence[AnswerWork], error: Exception) -> None:
        """After a failed batch, answer its requests one by one, so that only the one at fault fails."""
        alone = len(rest) == 1
        for work in rest:
            if alone or work.begun:
                work.done.set_exception(error)
                continue
            try:
                self._answer(serving, [work])
            except Exception as own:
                _log(own, "A request failed", serving)
                work.done.set_exception(own)

    def _answer(self, serving: Serving, batch: Sequence[AnswerWork]) -> None:
        fitted = [work.prepared.fit(serving) for work in batch]
        encoded = [item for item, work in zip(fitted, batch, strict=True) for _ in work.samplings]
        samplings = [sampling for work in batch for sampling in work.samplings]
        listeners = [listener for work in batch for listener in work.listeners(serving.version)]
        now = time.monotonic()
        self._on_batch(len(samplings), [now - work.arrived for work in batch])
        generate_encoded(serving.loaded, encoded, samplings, listeners, collate=serving.features.collate)

    def _run_call(self, work: CallWork) -> None:
        if not work.done.set_running_or_notify_cancel():
            return
        with self._turn() as serving:
            try:
                work.done.set_result(work.call(serving))
            except Exception as error:
                work.done.set_exception(error)

    def _refuse_the_rest(self) -> None:
        rest = [self._carried]
        while not self._queue.empty():
            rest.append(self._queue.get())
        for work in rest:
            if work is not None and work.done.set_running_or_notify_cancel():
                work.done.set_exception(self._shutting_down())

    def _shutting_down(self) -> Unavailable:
        return Unavailable(
            f"The {self._service} is shutting down: ask another replica.", retry_after=RETRY_AFTER_SECONDS
        )


def _log(error: Exception, what: str, serving: Serving) -> None:
    """An error that says in words what is wrong needs no traceback."""
    expected = isinstance(error, MPAError)
    level = logging.INFO if expected else logging.ERROR
    log.log(level, "%s: %s", what, error, exc_info=not expected, extra={"checkpoint": serving.version})
