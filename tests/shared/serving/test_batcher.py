"""The model thread on a real (tiny, random) model: what shares a batch, what is dropped, what a switch waits for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from random import Random

import pytest
import torch
from PIL import Image

from shared.errors import Busy, Unavailable
from shared.serving.batcher import ModelThread
from shared.serving.work import AnswerWork, Prepared, Serving, StreamPiece
from shared.vlm.generation import generate
from shared.vlm.loading import LoadedModel, load_model
from shared.vlm.prompting import Encoded, encode, question_prompt
from shared.vlm.sampling import Sampling
from tests.polling import async_wait_until
from tests.tiny_models import build_tiny_idefics3

SHORT = Sampling(max_tokens=3, temperature=1.0, seed=1)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(build_tiny_idefics3(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def serving(loaded: LoadedModel) -> Serving:
    return Serving("v1", loaded)


def check_room(waiting: int, limit: int) -> None:
    if waiting >= limit:
        raise Busy(f"{waiting} of {limit} wait", retry_after=1.0)


class Bench:
    """A model thread with room for 4 answers a batch, which ``hold`` stops between two batches."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.sizes: list[int] = []
        self.waits: list[float] = []
        self.thread = ModelThread(
            serving,
            service="student",
            max_batch=4,
            max_wait=0.01,
            check_room=partial(check_room, limit=8),
            torch_threads=1,
            on_batch=self._batch,
        )
        self._release = threading.Event()

    def _batch(self, size: int, waits: Sequence[float]) -> None:
        self.sizes.append(size)
        self.waits += waits

    async def hold(self) -> asyncio.Task[None]:
        holding = threading.Event()
        self._release.clear()

        def call(_: Serving) -> None:
            holding.set()
            self._release.wait(60)

        task = asyncio.create_task(self.thread.call(call))
        await asyncio.to_thread(holding.wait, 60)
        return task

    def release(self) -> None:
        self._release.set()

    def work(self, *samplings: Sampling, seed: int = 0) -> AnswerWork:
        return AnswerWork(self.prepared(seed), samplings or (SHORT,))

    def prepared(self, seed: int = 0) -> Prepared:
        image = Image.frombytes("RGB", (96, 96), Random(seed).randbytes(96 * 96 * 3))
        prompt = question_prompt(self.serving.loaded, image, "what is this?")
        return Prepared(lambda loaded: encode(loaded, prompt), encode(self.serving.loaded, prompt), self.serving)

    async def queue(self, *works: AnswerWork) -> list[asyncio.Task[object]]:
        tasks: list[asyncio.Task[object]] = [asyncio.create_task(self.thread.answers(work)) for work in works]
        await asyncio.sleep(0)
        return tasks


@pytest.fixture
def bench(serving: Serving) -> Iterator[Bench]:
    bench = Bench(serving)
    yield bench
    bench.release()
    bench.thread.close()


async def test_what_waits_together_is_answered_together(bench: Bench) -> None:
    held = await bench.hold()
    tasks = await bench.queue(*(bench.work(seed=n) for n in range(6)))
    assert bench.thread.queued == 6
    bench.release()
    await asyncio.gather(held, *tasks)
    assert bench.sizes == [4, 2]


async def test_a_wait_lasts_from_arrival_to_the_batch(bench: Bench) -> None:
    held = await bench.hold()
    first, second = bench.work(), bench.work(SHORT, SHORT, seed=1)
    tasks = await bench.queue(first, second)
    await async_wait_until(lambda: _true(time.monotonic() > max(first.arrived, second.arrived) + 0.05))
    bench.release()
    await asyncio.gather(held, *tasks)
    assert len(bench.waits) == 2, "one for each request, however many answers it wants"
    longest = time.monotonic() - min(first.arrived, second.arrived)
    assert all(0.05 <= wait <= longest for wait in bench.waits)


async def _true(value: bool) -> bool:
    return value


async def test_all_choices_of_a_request_share_one_batch(bench: Bench) -> None:
    held = await bench.hold()
    tasks = await bench.queue(bench.work(SHORT, SHORT), bench.work(SHORT, SHORT, SHORT), bench.work(*[SHORT] * 5))
    bench.release()
    await asyncio.gather(held, *tasks)
    assert bench.sizes == [2, 3, 5]


async def test_work_that_nobody_waits_for_is_dropped(bench: Bench) -> None:
    held = await bench.hold()
    kept, dropped = await bench.queue(bench.work(), bench.work(seed=1))
    dropped.cancel()
    await asyncio.wait({dropped})
    bench.release()
    await asyncio.gather(held, kept)
    assert bench.sizes == [1]


async def test_an_abandoned_answer_ends_at_its_next_token(bench: Bench) -> None:
    heard: list[StreamPiece] = []
    begun = threading.Event()

    def listen(piece: StreamPiece) -> None:
        heard.append(piece)
        begun.set()

    long = Sampling(max_tokens=900, temperature=1.0, seed=4)
    work = AnswerWork(bench.prepared(), (long,), listen)
    (task,) = await bench.queue(work)
    await asyncio.to_thread(begun.wait, 60)
    task.cancel()
    await asyncio.wait({task})
    await bench.thread.answers(bench.work())
    assert heard[-1].answer is not None
    assert heard[-1].answer.completion_tokens < 900


async def test_a_full_queue_is_busy(bench: Bench) -> None:
    held = await bench.hold()
    tasks = await bench.queue(*(bench.work() for _ in range(8)))
    with pytest.raises(Busy, match="8 of 8 wait") as caught:
        await bench.thread.answers(bench.work())
    assert caught.value.retry_after
    bench.release()
    await asyncio.gather(held, *tasks)


async def test_only_the_request_at_fault_fails(bench: Bench) -> None:
    good = bench.prepared()
    features = {**good.encoded.features, "input_ids": good.encoded.features["input_ids"].fill_(10**6)}
    bad = AnswerWork(replace(good, encoded=Encoded(features, good.encoded.length)), (SHORT,))
    held = await bench.hold()
    tasks = await bench.queue(bench.work(seed=1), bad, bench.work(seed=2))
    bench.release()
    await held
    first, failed, last = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(failed, IndexError)
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)
    assert bench.thread.alive


async def test_a_switch_is_drained_when_the_running_turn_ends(bench: Bench, loaded: LoadedModel) -> None:
    held = await bench.hold()
    tasks = await bench.queue(bench.work())
    drained = bench.thread.switch(Serving("v2", loaded))
    assert not drained.is_set()
    bench.release()
    await held
    assert await asyncio.to_thread(drained.wait, 60)
    version, _ = await bench.thread.answers(bench.work())
    assert (version, bench.thread.serving.version) == ("v2", "v2")
    assert (await tasks[0])[0] == "v2"  # type: ignore[index]


async def test_a_prompt_is_encoded_again_for_a_checkpoint_that_came_after_it(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Serving("v2", load_model(build_tiny_idefics3(tmp_path_factory.mktemp("other"), seed=1)))
    image = Image.new("RGB", (96, 96), "red")
    old, new = ("what is this?", "what color is it?")
    prompts = {id(s.loaded): question_prompt(s.loaded, image, t) for s, t in ((bench.serving, old), (other, new))}
    encoded = encode(bench.serving.loaded, prompts[id(bench.serving.loaded)])
    prepared = Prepared(lambda loaded: encode(loaded, prompts[id(loaded)]), encoded, bench.serving)
    bench.thread.switch(other)
    version, answers = await bench.thread.answers(AnswerWork(prepared, (SHORT,)))
    assert (version, answers) == ("v2", generate(other.loaded, [prompts[id(other.loaded)]], [SHORT]))


async def test_who_waits_at_the_end_is_told(serving: Serving) -> None:
    bench = Bench(serving)
    held = await bench.hold()
    (waiting,) = await bench.queue(bench.work())
    closing = asyncio.create_task(asyncio.to_thread(bench.thread.close))
    late = None
    while late is None:
        try:
            await asyncio.wait_for(bench.thread.answers(bench.work()), 0.01)
        except (TimeoutError, Busy):
            await asyncio.sleep(0.01)
        except Unavailable as error:
            late = error
    bench.release()
    await asyncio.gather(held, closing)
    assert late.retry_after
    assert (await waiting)[0] == "v1"  # type: ignore[index]
    assert not bench.thread.alive
