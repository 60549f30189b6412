"""The adaptive limit against real servers: over capacity, away, asking for a pause, and without end of a queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prometheus_client import CollectorRegistry

from services.parity.endpoints.endpoint import Endpoint
from services.parity.endpoints.evidence import RetryPolicy
from services.parity.endpoints.limiter import Limiter, Slot
from services.parity.worker.__main__ import open_worker
from shared.client import ChatClient
from shared.contracts import ChatMessage, ChatRequest, JobState
from shared.queue import make_celery
from shared.queue.work_loop import WorkLoop
from shared.settings import ParitySettings
from shared.state import JobStore
from tests.polling import async_wait_until
from tests.quick_server import ServerThread
from tests.scripted_models import completion
from tests.services.parity.collecting import Model, Spec, Submit

REQUEST = ChatRequest(model="m", messages=[ChatMessage(role="user", content="what?")], max_tokens=4)
QUICK = RetryPolicy(first=0.02, longest=0.1, longest_asked=2.0)


@dataclass
class SmallServer:
    """Serves ``capacity`` requests at once, ``seconds`` each; more get 429, or wait (``queues``).

    With a ``client`` it answers in rounds instead: only when all calls that the client may have in flight have arrived,
    however slow the machine is. ``rounds`` counts the requests of each.
    """

    capacity: int
    seconds: float = 0.02
    queues: bool = False
    retry_after: str | None = None
    busy: int = 0
    most: int = 0
    served: int = 0
    refused: int = 0
    lanes: asyncio.Semaphore | None = None
    client: Limiter | None = None
    expected: int = 0
    rounds: list[int] = field(default_factory=list)
    held: list[asyncio.Event] = field(default_factory=list)

    async def work(self) -> None:
        if self.client is None:
            self.lanes = self.lanes or asyncio.Semaphore(self.capacity)
            async with self.lanes:
                await asyncio.sleep(self.seconds)
            return
        answered = asyncio.Event()
        self.held.append(answered)
        while not answered.is_set():
            if self.has_all_of(self.client):
                self.rounds.append(len(self.held))
                for one in self.held:
                    one.set()
                self.held.clear()
            else:
                await asyncio.sleep(0.001)

    def has_all_of(self, client: Limiter) -> bool:
        in_flight = client.in_flight
        return self.busy == in_flight >= min(int(client.limit), self.expected - self.served)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat() -> Response:
            self.busy += 1
            self.most = max(self.most, self.busy)
            try:
                if self.busy > self.capacity and not self.queues:
                    self.refused += 1
                    headers = {} if self.retry_after is None else {"Retry-After": self.retry_after}
                    return JSONResponse({"error": {"message": "too many"}}, 429, headers)
                await self.work()
                self.served += 1
                return JSONResponse(completion(["a"]))
            finally:
                self.busy -= 1

        return app


Start = Callable[[SmallServer], ServerThread]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[ServerThread] = []

    def start_server(small: SmallServer) -> ServerThread:
        running.append(ServerThread(small.app()))
        return running[-1]

    yield start_server
    for server in running:
        server.stop()


async def ask(url: str, limiter: Limiter, count: int, timeout: float = 10.0) -> None:
    async with ChatClient(url, model="m", timeout=timeout) as client:
        upstream = Endpoint("teacher", client, limiter, asyncio.Event(), QUICK)
        async with asyncio.timeout(60):
            await asyncio.gather(*(upstream.chat(REQUEST) for _ in range(count)))


async def test_a_fast_server_is_given_all_that_is_allowed(start: Start) -> None:
    limiter = Limiter("teacher", most=16)
    small = SmallServer(capacity=1000, client=limiter, expected=200)
    await ask(start(small).url, limiter, 200)
    assert (small.served, small.refused, small.most) == (200, 0, 16)
    assert limiter.limit == 16


async def test_a_small_server_is_neither_flooded_nor_idle(start: Start) -> None:
    limiter = Limiter("teacher", most=64)
    small = SmallServer(capacity=6, client=limiter, expected=400)
    await ask(start(small).url, limiter, 400)
    assert small.served == sum(small.rounds) == 400
    assert small.refused < 40, "it was flooded"
    assert small.most <= 8
    assert 2 <= limiter.limit <= 8, "the limit is not near what the server can"
    assert len(small.rounds) < 400 / 3, "it was idle: less than half of its capacity was used"


@pytest.mark.slow
async def test_what_the_server_asks_for_holds_for_all_calls(start: Start) -> None:
    small = SmallServer(capacity=2, retry_after="1")
    limiter = Limiter("teacher", most=32)
    url = start(small).url
    asking = asyncio.create_task(ask(url, limiter, 12))
    await async_wait_until(lambda: _is(small.refused > 0))
    await async_wait_until(lambda: _is(small.busy == 0))
    arrived, paused_at = small.served + small.refused, time.monotonic()
    await async_wait_until(lambda: _is(small.served + small.refused > arrived), every=0.005)
    assert time.monotonic() - paused_at > 0.7
    await asking
    assert small.served == 12


@pytest.mark.slow
async def test_a_server_that_queues_without_end_is_not_filled_until_calls_time_out(start: Start) -> None:
    small = SmallServer(capacity=2, seconds=0.05, queues=True)
    limiter = Limiter("teacher", most=64, slow=0.3)
    await ask(start(small).url, limiter, 150, timeout=2.0)
    assert small.served == 150
    assert limiter.limit < 24 and small.most < 40


async def test_an_outage_is_probed_gently_and_over_soon(start: Start) -> None:
    small = SmallServer(capacity=1000, seconds=0.01)
    server = start(small)
    limiter = Limiter("teacher", most=16)
    await ask(server.url, limiter, 100)
    server.stop()
    asking = asyncio.create_task(ask(server.url, limiter, 100))
    await async_wait_until(lambda: _is(limiter.limit == 1.0))
    back = ServerThread(small.app(), server.port)
    await asking
    assert small.served == 200
    assert limiter.limit >= 8, "it grows back to half at once"
    back.stop()


async def test_an_old_call_does_not_halve_again() -> None:
    limiter = Limiter("teacher", most=8)
    limiter.limit = 8.0
    slots: list[Slot] = []
    over = asyncio.Event()

    async def hold() -> None:
        async with limiter.slot() as slot:
            slots.append(slot)
            await over.wait()

    holding = [asyncio.create_task(hold()) for _ in range(8)]
    await async_wait_until(lambda: _is(len(slots) == 8))
    for slot in slots:
        slot.overloaded(None)
    assert limiter.limit == 4.0
    over.set()
    await asyncio.gather(*holding)
    async with limiter.slot() as slot:
        slot.overloaded(None)
    assert (limiter.limit, limiter.in_flight) == (2.0, 0)


async def test_pictures_that_came_first_go_first() -> None:
    limiter = Limiter("teacher", most=1)
    order: list[float] = []

    async def call(rank: float) -> None:
        async with limiter.slot(rank):
            order.append(rank)

    async with limiter.slot():
        calls = [asyncio.create_task(call(rank)) for rank in (5.0, 1.0, 3.0, 1.0)]
        await asyncio.sleep(0)
    await asyncio.gather(*calls)
    assert order == [1.0, 1.0, 3.0, 5.0]


async def test_a_cancelled_wait_takes_nothing_with_it() -> None:
    limiter = Limiter("teacher", most=1)

    async def call() -> None:
        async with limiter.slot():
            await asyncio.sleep(0)

    async with limiter.slot():
        waiting = [asyncio.create_task(call()) for _ in range(6)]
        await asyncio.sleep(0)
        for task in waiting[::2]:
            task.cancel()
    # The first that was granted its turn in leaving may be cancelled in the same moment.
    waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert limiter.in_flight == 0
    async with asyncio.timeout(5), limiter.slot():
        assert limiter.in_flight == 1


class LimitMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order: the limit stays within its bounds, and its calls too."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.limiter = Limiter("teacher", most=9, slow=1e9)
        self.running: list[tuple[asyncio.Task[None], asyncio.Event, list[Slot]]] = []

    def teardown(self) -> None:
        for task, _, _ in self.running:
            task.cancel()
        self._settle()
        assert self.limiter.in_flight == 0
        self.loop.close()

    def _settle(self) -> None:
        async def pause() -> None:
            for _ in range(5):
                await asyncio.sleep(0)

        self.loop.run_until_complete(pause())

    @rule(rank=st.integers(0, 3))
    def begin(self, rank: int) -> None:
        over, slots = asyncio.Event(), list[Slot]()

        async def call() -> None:
            async with self.limiter.slot(rank) as slot:
                slots.append(slot)
                await over.wait()

        self.running.append((self.loop.create_task(call()), over, slots))
        self._settle()

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 1000), ending=st.sampled_from(["answered", "overloaded", "neither", "cancelled"]))
    def end(self, which: int, ending: str) -> None:
        task, over, slots = self.running.pop(which % len(self.running))
        if ending == "cancelled" or not slots:
            task.cancel()
        elif ending == "answered":
            slots[0].answered()
        elif ending == "overloaded":
            slots[0].overloaded(None)
        over.set()
        self._settle()

    @invariant()
    def within_bounds(self) -> None:
        holding = sum(bool(slots) for _, _, slots in self.running)
        assert 1.0 <= self.limiter.limit <= 9.0
        assert self.limiter.in_flight == holding
        assert holding <= 9
        if len(self.running) > holding:  # nobody waits while there is room
            assert holding >= int(self.limiter.limit)


TestLimit = LimitMachine.TestCase
TestLimit.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


async def test_the_shards_of_a_worker_share_the_limit_of_calls(
    settings: ParitySettings, jobs: JobStore, submit: Submit, spec: Spec, teacher: Model, student: Model
) -> None:
    job_id = await submit(spec())
    teacher[0].delay = student[0].delay = 0.02
    fewer = settings.model_copy(update={"calls_in_flight": 3})
    with WorkLoop(lambda: open_worker(fewer, make_celery(fewer), CollectorRegistry()), threads=4) as loop:
        await asyncio.gather(*(asyncio.to_thread(loop.run, job_id, shard) for shard in range(4)))
    assert (await jobs.get(job_id)).state is JobState.TRAINING
    assert 1 < teacher[0].most_in_flight <= 3
    assert 1 < student[0].most_in_flight <= 3


async def _is(value: bool) -> bool:
    return value
