"""The model in a process of its own: what can go wrong between two processes. What both ways of running it share is in
../test_base.py.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from services.student.engines.base import Watcher, WeightsLost
from services.student.engines.process import engine as engine_module
from services.student.engines.process.child import ModelChild
from services.student.engines.process.engine import ProcessEngine
from shared.contracts import SmokeAnswer
from shared.errors import BadCheckpoint, InvalidInput, MPAError, Unavailable
from shared.settings import StudentSettings
from shared.vlm.sampling import Sampling
from tests.polling import async_wait_until
from tests.services.student.asking import fresh, question, said
from tests.services.student.small_replica import ask, png, running

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
PICTURE = base64.b64encode(png(60)).decode()
WRONG = SmokeAnswer(question="?", answer="what no model says", image_png_base64=PICTURE)
MODEL_PROCESS = "services.student.engines.process"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> StudentSettings:
    folder = tmp_path_factory.mktemp("data")
    return StudentSettings(data_dir=folder, student_process="process", redis_url="", student_max_batch=4)


@asynccontextmanager
async def serving(settings: StudentSettings, folder: Path) -> AsyncIterator[ProcessEngine]:
    engine = await ProcessEngine.start(settings, "base", folder, None)
    try:
        yield engine
    finally:
        await engine.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(settings: StudentSettings, base: Path) -> AsyncIterator[ProcessEngine]:
    async with serving(settings, base) as started:
        yield started


async def alive(engine: ProcessEngine) -> None:
    async def look() -> bool:
        return engine.alive

    await async_wait_until(look, 100)


async def test_swaps_to_another_processor_under_load(
    engine: ProcessEngine, settings: StudentSettings, base: Path, other: Path, tmp_path: Path
) -> None:
    """A prompt that was encoded for the checkpoint before is encoded anew: each answer is what its version says."""
    folder = shutil.copytree(other, tmp_path / "polite")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "{# other files, other words #}please ")
    truth = {"base": await fresh(settings, base), "polite": await fresh(settings, folder)}
    assert truth["base"] != truth["polite"]
    seen: set[str] = set()
    over = asyncio.Event()

    async def ask_on() -> None:
        while not over.is_set():
            version, answer = await said(engine)
            assert [token for token, _ in answer] == [token for token, _ in truth[version]]
            seen.add(version)

    async def score_on() -> None:
        while not over.is_set():
            scored = await engine.score([(question(), ["red"]), (question("and?"), ["one", "two"])])
            assert [len(row) for row in scored.scores] == [1, 2]
            seen.add(scored.version)

    clients = [asyncio.create_task(ask()) for ask in (*[ask_on] * 5, score_on)]
    for _ in range(6):
        await engine.swap("polite", folder, None)
        assert (await said(engine))[0] == "polite"
        assert await engine.switch_back("base")
        assert (await said(engine))[0] == "base"
    over.set()
    await asyncio.gather(*clients)
    assert seen == {"base", "polite"}


async def test_a_process_that_dies_in_a_swap_comes_back_with_the_old_checkpoint(
    engine: ProcessEngine, other: Path
) -> None:
    before = await said(engine)
    swapping = asyncio.create_task(engine.swap("job-b", other, None))
    await asyncio.sleep(0)
    os.kill(engine._child.pid, signal.SIGKILL)
    with pytest.raises(Unavailable) as caught:
        await swapping
    assert caught.value.retry_after
    with pytest.raises(Unavailable):
        await said(engine)
    await alive(engine)
    assert (engine.version, await said(engine)) == ("base", before)
    await engine.swap("job-b", other, None)
    assert (await said(engine))[0] == "job-b"
    assert await engine.switch_back("base")


@pytest.mark.timeout(300)
async def test_a_process_that_dies_on_its_first_batch_is_restarted_ever_later(
    settings: StudentSettings, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawned: list[float] = []
    killed: list[float] = []

    class NotedChild(ModelChild):
        async def spawn(self) -> None:
            spawned.append(time.monotonic())
            await super().spawn()

    class Killer(Watcher):
        def batch(self, answers: int, waits: Sequence[float]) -> None:
            killed.append(time.monotonic())
            os.kill(engine._child.pid, signal.SIGKILL)

        def images(self, hits: int, misses: int) -> None:
            pass

    monkeypatch.setattr(engine_module, "ModelChild", NotedChild)
    engine = await ProcessEngine.start(settings, "base", base, None, Killer())
    try:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await said(engine)
            await alive(engine)
    finally:
        await engine.close()
    first, second = (start - end for start, end in zip(spawned[1:], killed, strict=True))
    assert first >= 0.5 and second >= 1.0, (first, second)


async def test_a_stream_that_nobody_reads_ends_in_the_process(engine: ProcessEngine) -> None:
    """Four rows are all that a batch holds: the next answer can only come when the abandoned ones have ended."""
    endless = [Sampling(max_tokens=900, temperature=1.0, seed=seed) for seed in range(4)]
    async with aclosing(engine.stream(question(), endless)) as pieces:
        await anext(pieces)
    waiting = [asyncio.create_task(engine.answer(question(), endless)) for _ in range(3)]

    async def queued() -> bool:
        return engine.queued > 0

    await async_wait_until(queued)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await said(engine)
    assert engine.queued == 0 and not engine._child._calls


async def test_bad_requests_and_checkpoints_leave_the_process_alone(
    engine: ProcessEngine, other: Path, tmp_path: Path
) -> None:
    pid = engine._child.pid
    with pytest.raises(InvalidInput, match="shorten the prompt"):
        await engine.answer(question("word " * 3000), [Sampling(8)])
    with pytest.raises(BadCheckpoint, match="smoke question"):
        await engine.swap("job-b", other, WRONG)
    with pytest.raises(MPAError, match=str(tmp_path / "nothing")):
        await engine.swap("nothing", tmp_path / "nothing", None)
    assert (await said(engine))[0] == "base" and engine._child.pid == pid


async def test_a_bad_checkpoint_is_refused_at_the_start(settings: StudentSettings, other: Path) -> None:
    with pytest.raises(BadCheckpoint, match="smoke question"):
        await ProcessEngine.start(settings, "job-b", other, WRONG)


async def test_weights_lost_in_place_need_a_new_process(
    settings: StudentSettings, base: Path, other: Path, tmp_path: Path
) -> None:
    """The new weights are wrong and the old ones' folder is away: nothing answers until it is back."""
    folder = shutil.copytree(base, tmp_path / "serving")
    async with serving(settings.model_copy(update={"student_swap": "in_place"}), folder) as engine:
        before = await said(engine)
        await engine.swap("job-b", other, None)
        assert (await said(engine))[0] == "job-b"
        await engine.swap("base", folder, None)
        assert await said(engine) == before
        (folder / "model.safetensors").rename(tmp_path / "away")
        with pytest.raises(WeightsLost):
            await engine.swap("job-b", other, WRONG)
        with pytest.raises(Unavailable):
            await said(engine)

        async def given_up() -> bool:
            return not engine.alive and "cannot be restarted" in engine.trouble

        await async_wait_until(given_up, 60)
        (tmp_path / "away").rename(folder / "model.safetensors")
        await alive(engine)
        assert await said(engine) == before


async def test_the_service_says_so_while_the_process_is_away(settings: StudentSettings, base: Path) -> None:
    ours = settings.model_copy(update={"student_model": str(base)})
    async with running(ours) as replica, httpx.AsyncClient(base_url=replica.client.base_url, timeout=60) as http:
        body = ask(max_tokens=200).model_dump(mode="json", exclude_none=True)
        first = await http.post("/v1/chat/completions", json=body)
        asking = [asyncio.create_task(http.post("/v1/chat/completions", json=body)) for _ in range(8)]
        os.kill(replica.app.state.rollout.engine._child.pid, signal.SIGKILL)
        replies = [reply.status_code for reply in await asyncio.gather(*asking)]
        assert 503 in replies and set(replies) <= {200, 503}
        ready = await http.get("/readyz")
        assert ready.status_code == 503 and "restarted" in ready.json()["reason"]
        refused = await http.post("/v1/chat/completions", json=body)
        assert refused.status_code == 503 and refused.headers["retry-after"]

        async def back() -> bool:
            return (await http.get("/readyz")).status_code == 200

        await async_wait_until(back, 60)
        again = await http.post("/v1/chat/completions", json=body)
        assert again.json()["choices"] == first.json()["choices"]
        metrics = (await http.get("/metrics")).text
        assert "mpa_student_batch_answers_count" in metrics and "mpa_student_queue_wait_seconds_count 0" not in metrics
        assert 'image_features_total{result="miss"}' in metrics
