"""The process that runs the model for a service: ``python -m services.student.engines.process <descriptor>``.

It takes prompts that are ready for the model and returns answers, so that only the model needs its interpreter. The
descriptor is one end of a socket pair. When the other end closes, the process ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.student.engines.base import WeightsLost
from services.student.engines.process.wire import (
    LENGTHS,
    Json,
    Stale,
    answer_head,
    error_head,
    frame,
    piece_head,
    read_prompts,
    read_sampling,
    score_head,
)
from services.student.engines.transformers.engine import TransformersEngine
from shared.contracts import SmokeAnswer
from shared.errors import Unavailable
from shared.serving.work import AnswerWork, ChoiceListener, Serving
from shared.settings import StudentSettings
from shared.telemetry import setup_logging
from shared.vlm.generation import Generated
from shared.vlm.prompting import Encoded


class Line:
    """The socket. Any thread may send. Only one reads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def send(self, head: Json, state: Callable[[], Json] = dict) -> None:
        """``state`` is called while no other frame can be sent, so that a later frame never carries an earlier state.

        Blocks while the service reads slowly.
        """
        with self._lock:
            self._connection.sendall(frame({**head, **state()}))

    def read(self) -> tuple[Json, bytes] | None:
        """The next frame, None at the end."""
        lengths = self._exactly(LENGTHS.size)
        if lengths is None:
            return None
        text, payload = (self._exactly(size) for size in LENGTHS.unpack(lengths))
        return None if text is None or payload is None else (json.loads(text), payload)

    def _exactly(self, size: int) -> bytes | None:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self._connection.recv_into(view)
            if not count:
                return None
            view = view[count:]
        return bytes(data)


@dataclass(frozen=True)
class Sent:
    """A prompt as it arrived, encoded by the processor with ``digest``."""

    encoded: Encoded
    digest: str

    def fit(self, serving: Serving) -> Encoded:
        if serving.loaded.processor_digest != self.digest:
            raise Stale("The prompt was encoded for a checkpoint with another processor.")
        return self.encoded


class SentWork(AnswerWork):
    """Adds its number to ``began`` when it leaves the queue."""

    def __init__(self, number: int, began: list[int], *work: Any) -> None:
        super().__init__(*work)
        self._number, self._began = number, began

    def listeners(self, version: str) -> list[ChoiceListener]:
        self._began.append(self._number)
        return super().listeners(version)


class FrameHandler:
    """Does what the frames say. Questions go straight to the model's thread; rare tasks run on an event loop."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._began: list[int] = []
        self._works: dict[int, AnswerWork | Future[Any]] = {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="student-rare", daemon=True).start()
        self._engine: TransformersEngine

    def run(self) -> None:
        """Read frames until the service is gone or says ``close``. On ``close``, finish the running batch first."""
        rare = {"start": self._start, "swap": self._swap, "switch_back": self._switch_back, "score": self._score}
        while (read := self._line.read()) is not None:
            head, payload = read
            do = head["do"]
            if do == "answer":
                self._answer(head, payload)
            elif do == "cancel":
                self._cancel(head["id"])
            elif do == "close":
                asyncio.run_coroutine_threadsafe(self._engine.close(), self._loop).result()
                return
            else:
                self._spawn(head["id"], rare[do](head, payload))

    def _answer(self, head: Json, payload: bytes) -> None:
        number = head["id"]
        (encoded,) = read_prompts([head["prompt"]], payload)
        samplings = [read_sampling(one) for one in head["samplings"]]
        on_piece: Callable[[Any], None] | None = None
        if head["stream"]:
            on_piece = lambda piece: self._line.send({"id": number, "piece": piece_head(piece)})  # noqa: E731
        work = SentWork(number, self._began, Sent(encoded, head["digest"]), samplings, on_piece)
        self._works[number] = work
        work.done.add_done_callback(lambda done: self._answered(number, done))
        try:
            self._engine.submit(work)
        except Exception as error:
            work.done.set_exception(error)
            if isinstance(error, Unavailable):  # the model's thread has ended: the service starts a new process
                os._exit(1)

    def _answered(self, number: int, done: Future[tuple[str, list[Generated]]]) -> None:
        self._works.pop(number, None)
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            state = self._state if isinstance(error, Stale) else dict  # so that the next try is encoded for it
            self._line.send({"id": number, "error": error_head(error)}, state)
            return
        version, answers = done.result()
        self._line.send({"id": number, "version": version, "answers": [answer_head(answer) for answer in answers]})

    def _cancel(self, number: int) -> None:
        work = self._works.get(number)
        if isinstance(work, AnswerWork):
            work.abandon()
        elif work is not None:
            work.cancel()

    def _spawn(self, number: int, work: Coroutine[Any, Any, Json]) -> None:
        future = asyncio.run_coroutine_threadsafe(self._replied(number, work), self._loop)
        self._works[number] = future
        future.add_done_callback(lambda _: self._works.pop(number, None))

    async def _replied(self, number: int, work: Awaitable[Json]) -> None:
        try:
            reply = await work
        except (Exception, asyncio.CancelledError, CancelledError) as error:
            reply = {"error": error_head(error)}
        self._line.send({"id": number, **reply}, self._state)
        if reply.get("error", {}).get("kind") == WeightsLost.slug:  # a new process loads them again
            os._exit(1)

    def _state(self) -> Json:
        if not hasattr(self, "_engine"):
            return {}
        serving = self._engine.serving
        return {"serving": [serving.version, serving.loaded.processor_digest, serving.loaded.max_length]}

    async def _start(self, head: Json, payload: bytes) -> Json:
        settings = StudentSettings(**head["settings"])
        setup_logging("student-model", settings)
        self._engine = await TransformersEngine.start(
            settings, head["version"], Path(head["folder"]), _smoke(head), self
        )
        return {"score_trouble": self._engine.score_trouble}

    async def _swap(self, head: Json, payload: bytes) -> Json:
        await self._engine.swap(head["version"], Path(head["folder"]), _smoke(head))
        return {}

    async def _switch_back(self, head: Json, payload: bytes) -> Json:
        return {"switched": await self._engine.switch_back(head["version"])}

    async def _score(self, head: Json, payload: bytes) -> Json:
        prompts: Sequence[Encoded] = read_prompts(head["prompts"], payload)
        items = [(Sent(one, head["digest"]), answers) for one, answers in zip(prompts, head["answers"], strict=True)]
        scored = await self._engine.score_prepared(items)
        return {"version": scored.version, "scores": [[score_head(one) for one in row] for row in scored.scores]}

    def batch(self, answers: int, waits: Sequence[float]) -> None:
        """Called on the model's thread, after the works of the batch have noted that they began."""
        self._line.send({"batch": answers, "waits": list(waits), "began": list(self._began)})
        self._began.clear()

    def images(self, hits: int, misses: int) -> None:
        self._line.send({"images": [hits, misses]})


def _smoke(head: Json) -> SmokeAnswer | None:
    return None if head["smoke"] is None else SmokeAnswer.model_validate(head["smoke"])


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        try:
            FrameHandler(Line(connection)).run()
        except OSError:  # the service is gone
            os._exit(1)
    os._exit(0)  # a load that nobody waits for must not keep the process alive


if __name__ == "__main__":
    main()
