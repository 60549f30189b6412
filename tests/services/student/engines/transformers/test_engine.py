"""The engine without HTTP: dtypes, kept image features, a full queue, swaps, and inputs that must not kill it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ByteSize

from services.student.engines.transformers.engine import TransformersEngine
from shared.errors import Busy, MPAError
from shared.serving.work import Serving
from shared.settings import StudentSettings
from shared.vlm.sampling import Sampling
from tests.services.student.asking import fresh, picture, question, said
from tests.tiny_families import FAMILIES, seeded
from tests.tiny_models import build_tiny_llava


@pytest.fixture
def settings(tmp_path: Path) -> StudentSettings:
    return StudentSettings(data_dir=tmp_path, student_max_wait=timedelta(milliseconds=1))


@asynccontextmanager
async def serving(settings: StudentSettings, folder: Path) -> AsyncIterator[TransformersEngine]:
    engine = await TransformersEngine.start(settings, "base", folder, None)
    try:
        yield engine
    finally:
        await engine.close()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
async def test_every_dtype_answers_and_scores(settings: StudentSettings, base: Path, dtype: str) -> None:
    async with serving(settings.model_copy(update={"student_dtype": dtype}), base) as engine:
        version, tokens = await said(engine)
        scored = await engine.score([(question(), ["red", "two words"])])
    assert version == "base"
    assert tokens
    assert [score.answer for score in scored.scores[0]] == ["red", "two words"]
    assert all(-50 < value < 0 for score in scored.scores[0] for value in score.logprobs)


async def test_lower_precision_changes_little(settings: StudentSettings, base: Path) -> None:
    full = await fresh(settings, base)
    half = await fresh(settings.model_copy(update={"student_dtype": "bfloat16"}), base)
    assert half[0][1] == pytest.approx(full[0][1], abs=0.2)


async def test_a_second_question_about_an_image_reuses_its_features(settings: StudentSettings, base: Path) -> None:
    """Also where the image comes as another object, and beside another image."""
    asked = [question("what is this?"), question("and where is it?"), question("which?", [picture(3), picture(4)])]
    async with serving(settings.model_copy(update={"student_feature_cache": ByteSize(0)}), base) as plain:
        expected = [await said(plain, one) for one in asked]
        assert plain._model.serving.features.nbytes == 0
    async with serving(settings, base) as engine:
        assert [await said(engine, one) for one in asked] == [
            (version, [(token, pytest.approx(value, abs=1e-4)) for token, value in tokens])
            for version, tokens in expected
        ]
        features = engine._model.serving.features
        assert (features.hits, features.misses) == (1, 2)


@pytest.mark.parametrize("mode", ["double_buffer", "in_place"])
async def test_features_of_one_checkpoint_never_serve_another(
    settings: StudentSettings, base: Path, other: Path, mode: str
) -> None:
    ours = settings.model_copy(update={"student_swap": mode})
    truth = {"base": await fresh(ours, base), "job-b": await fresh(ours, other)}
    async with serving(ours, base) as engine:
        for version, folder in (("base", base), ("job-b", other), ("base", base)):
            if version != engine.version and not await engine.switch_back(version):
                await engine.swap(version, folder, None)
            assert await said(engine) == (version, truth[version])
            assert await said(engine) == (version, truth[version])


async def test_what_a_held_version_kept_is_freed(settings: StudentSettings, base: Path, other: Path) -> None:
    async with serving(settings, base) as engine:
        await said(engine)
        old = engine._model.serving.features
        assert old.nbytes > 0
        await engine.swap("job-b", other, None)
        assert old.nbytes == 0


@pytest.mark.parametrize("mode", ["double_buffer", "in_place"])
async def test_swaps_under_load_mix_nothing(settings: StudentSettings, base: Path, other: Path, mode: str) -> None:
    """Every answer is wholly of the version that it names, and the clients see both."""
    folders = {"base": base, "job-b": other}
    ours = settings.model_copy(update={"student_swap": mode, "student_keep_previous": False, "student_max_batch": 4})
    truth = {version: [token for token, _ in await fresh(ours, folder)] for version, folder in folders.items()}
    seen: list[tuple[str, list[int]]] = []
    over = asyncio.Event()
    async with serving(ours, base) as engine:

        async def ask_on() -> None:
            while not over.is_set():
                version, tokens = await said(engine)
                seen.append((version, [token for token, _ in tokens]))

        clients = [asyncio.create_task(ask_on()) for _ in range(8)]
        for n in range(8):
            version = "base" if n % 2 else "job-b"
            await engine.swap(version, folders[version], None)
            assert engine.version == version
            count = len(seen)
            async with asyncio.timeout(60):
                while len(seen) < count + 8:
                    await asyncio.sleep(0.005)
        over.set()
        await asyncio.gather(*clients)
    assert {version for version, _ in seen} == {"base", "job-b"}
    assert all(tokens == truth[version] for version, tokens in seen)


@asynccontextmanager
async def held(engine: TransformersEngine) -> AsyncIterator[None]:
    """Keep the model busy while the block runs."""
    begun, release = threading.Event(), threading.Event()

    def call(_: Serving) -> None:
        begun.set()
        release.wait(60)

    task = asyncio.create_task(engine._model.call(call))
    await asyncio.to_thread(begun.wait, 60)
    try:
        yield
    finally:
        release.set()
        await task


async def test_who_exceeds_the_queue_is_refused_before_the_image_is_prepared(
    settings: StudentSettings, base: Path
) -> None:
    async with serving(settings.model_copy(update={"student_queue_size": 3}), base) as engine:
        async with held(engine):
            asking = [asyncio.create_task(said(engine)) for _ in range(9)]
            done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_EXCEPTION)
            assert (len(done), len(waiting)) == (6, 3)
            refusals = [task.exception() for task in done]
        assert all(isinstance(error, Busy) and error.retry_after for error in refusals)
        assert [version for version, _ in await asyncio.gather(*waiting)] == ["base"] * 3


async def test_a_full_queue_keeps_no_swap_out(settings: StudentSettings, base: Path, other: Path) -> None:
    ours = settings.model_copy(update={"student_queue_size": 1, "student_swap": "in_place"})
    async with serving(ours, base) as engine:
        async with held(engine):
            waiting = asyncio.create_task(said(engine))
            async with asyncio.timeout(60):
                while engine.queued < 1:
                    await asyncio.sleep(0.005)
            swapping = asyncio.create_task(engine.swap("job-b", other, None))
        await waiting
        await swapping
        assert (await said(engine))[0] == "job-b"


async def test_a_text_that_spells_the_image_token_is_a_text(settings: StudentSettings, base: Path) -> None:
    async with serving(settings, base) as engine:
        before = await said(engine)
        assert await said(engine, question("is <image> a token?")) != before
        assert await said(engine) == before


async def test_a_family_with_other_features_is_served_too(settings: StudentSettings, tmp_path: Path) -> None:
    folder = build_tiny_llava(tmp_path / "llava")
    async with serving(settings, folder) as engine:
        first = await said(engine)
        assert [token for token, _ in (await said(engine))[1]] == [token for token, _ in first[1]]
        assert engine._model.serving.features.hits == 1


@pytest.fixture(scope="module")
def lasting(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransformersEngine]:
    ours = StudentSettings(data_dir=tmp_path_factory.mktemp("data"), student_max_wait=timedelta(milliseconds=1))
    engine = asyncio.run(TransformersEngine.start(ours, "base", base, None))
    yield engine
    asyncio.run(engine.close())


SIDES = st.integers(2, 150)
TEXTS = st.one_of(st.text(max_size=60), st.sampled_from(["<image>", "<pad>", "<end_of_utterance>", "\x00", "🙂" * 40]))


@given(
    text=TEXTS,
    sides=st.lists(st.tuples(SIDES, SIDES), max_size=3),
    temperature=st.sampled_from([0.0, 1e-6, 1.0, 2.0]),
    top_p=st.sampled_from([1e-9, 0.5, 1.0]),
    stop=st.lists(st.text(min_size=1, max_size=3), max_size=2),
    max_tokens=st.sampled_from([1, 3, 2000]),
)
@hypothesis_settings(max_examples=30)
def test_no_input_makes_the_engine_die(
    lasting: TransformersEngine,
    text: str,
    sides: list[tuple[int, int]],
    temperature: float,
    top_p: float,
    stop: list[str],
    max_tokens: int,
) -> None:
    """A plain question gets the same answer, whatever other requests are in its batch."""
    odd = question(text, [picture(n, *size) for n, size in enumerate(sides)])
    sampling = Sampling(max_tokens, temperature, top_p, 1, tuple(stop), 2)

    async def ask_both() -> list[object]:
        return await asyncio.gather(lasting.answer(odd, [sampling]), said(lasting), return_exceptions=True)

    strange, plain = asyncio.run(ask_both())
    assert not isinstance(strange, BaseException) or isinstance(strange, MPAError), repr(strange)
    assert not isinstance(plain, BaseException), repr(plain)
    assert isinstance(plain, tuple)
    assert [token for token, _ in plain[1]] == [token for token, _ in asyncio.run(said(lasting))[1]]
    assert lasting.alive


COMPILED = """
import asyncio, sys, torch
from pathlib import Path
from torch._dynamo.utils import counters
from shared.settings import StudentSettings
from tests.services.student.asking import fresh

folder, data = map(Path, sys.argv[1:])
plain = asyncio.run(fresh(StudentSettings(data_dir=data), folder))
assert not counters["frames"]
compiled = asyncio.run(fresh(StudentSettings(data_dir=data, student_compile=True), folder))
assert counters["frames"]["ok"] > 0, "nothing was compiled"
assert [token for token, _ in plain] == [token for token, _ in compiled], (plain, compiled)
"""


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_answers(base: Path, tmp_path: Path) -> None:
    """In a process of its own, because the tests run with the compiler off."""
    environment = {**os.environ, "TORCHDYNAMO_DISABLE": "0", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled")}
    command = [sys.executable, "-c", COMPILED, str(base), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
async def test_a_student_of_every_family_answers_scores_and_swaps(family: str, dtype: str, tmp_path: Path) -> None:
    settings = StudentSettings(data_dir=tmp_path, student_dtype=dtype, student_max_wait=timedelta(milliseconds=1))
    one, other = (seeded(family, tmp_path / str(seed), seed) for seed in (1, 2))
    engine = await TransformersEngine.start(settings, "one", one, None)
    try:
        version, tokens = await said(engine)
        scored = await engine.score([(question(), ["red", "two words"])])
        assert version == "one" and tokens
        assert [score.answer for score in scored.scores[0]] == ["red", "two words"]
        await engine.swap("other", other, None)
        later, new_tokens = await said(engine)
        assert later == "other" and new_tokens != tokens
    finally:
        await engine.close()
