"""A candidate is made by processes that get what they need, and secrets only in their environment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

import services.trainer.worker.candidate
from services.trainer.errors import NothingTrained
from services.trainer.metrics import TrainerMetrics
from services.trainer.run_config import RunConfig, TrainResult, save, to_json
from services.trainer.worker.candidate import CandidateMaker
from services.trainer.worker.training import HeldTraining
from shared.checkpoints import CheckpointRegistry
from shared.contracts import JobState, TrainSpec
from shared.errors import NotFound
from shared.sets import set_digest
from shared.state import JobStore
from shared.store import Store
from tests.services.trainer.played_job import PlayedJob, scores
from tests.services.trainer.small_set import job_spec

Watch = Callable[[], Awaitable[None]]
SPEC = job_spec(TrainSpec())


class Phases:
    """In place of the two processes: what each was started with, and a result that the test chose."""

    def __init__(self) -> None:
        self.started: list[tuple[str, RunConfig, dict[str, str]]] = []
        self.changed_tensors = 3
        self.leaves_results = True

    async def run(self, config: RunConfig, phase: str, watch: Watch, environment: dict[str, str]) -> None:
        self.started.append((phase, config, environment))
        await watch()
        if not self.leaves_results:
            return
        if phase == "train":
            config.candidate.mkdir()
            for file in config.base_folder.iterdir():
                (config.candidate / file.name).write_bytes(file.read_bytes())
            save(
                config.folder / "result.json", TrainResult(1, 0.5, 1.0, 8, 8, {}, changed_tensors=self.changed_tensors)
            )
        else:
            save(config.folder / "evaluation.json", scores(0.25, 0.75))


@pytest.fixture
def phases(monkeypatch: pytest.MonkeyPatch) -> Phases:
    played = Phases()
    monkeypatch.setattr(services.trainer.worker.candidate, "run_phase", played.run)
    return played


@pytest.fixture
async def held(job: PlayedJob, jobs: JobStore, small_set: Store, registry: CheckpointRegistry) -> HeldTraining:
    await job.submit(SPEC)
    await jobs.transition("j1", JobState.COLLECTING, JobState.TRAINING)
    lease = await jobs.trainings.acquire("j1", "w", 30, 3)
    assert lease is not None
    return HeldTraining(lease)


@pytest.fixture
def maker(job: PlayedJob) -> CandidateMaker:
    secrets = {"api_key": SecretStr("our key"), "teacher_api_key": SecretStr("the teacher's key")}
    return CandidateMaker(
        job.settings.model_copy(update=secrets), job.store, job.jobs, TrainerMetrics(CollectorRegistry())
    )


async def test_both_steps_run_once_and_a_repetition_runs_none(
    phases: Phases,
    held: HeldTraining,
    maker: CandidateMaker,
    registry: CheckpointRegistry,
    job: PlayedJob,
) -> None:
    version, measured = await maker.made(held, registry, SPEC, "base")
    assert [phase for phase, _, _ in phases.started] == ["train", "evaluate"]
    assert measured.evaluation.overall.agreement_after == 0.75
    assert (registry.card(version).base, registry.card(version).set_digest) == ("base", set_digest(job.store, "j1"))
    assert (await job.status()).state is JobState.EVALUATING
    assert await maker.made(held, registry, SPEC, "base") == (version, measured)
    assert len(phases.started) == 2


async def test_secrets_are_passed_in_the_environment_and_never_in_a_file(
    phases: Phases, held: HeldTraining, maker: CandidateMaker, registry: CheckpointRegistry, store: Store
) -> None:
    await maker.made(held, registry, SPEC, "base")
    for _, config, environment in phases.started:
        assert environment["MPA_API_KEY"] == "our key"
        assert environment["MPA_TEACHER_API_KEY"] == "the teacher's key"
        assert b"our key" not in to_json(config) and b"the teacher's key" not in to_json(config)
    for key in store.list(""):
        assert b"our key" not in store.read(key) and b"the teacher's key" not in store.read(key), key


async def test_a_training_that_changed_nothing_is_not_evaluated(
    phases: Phases, held: HeldTraining, maker: CandidateMaker, registry: CheckpointRegistry
) -> None:
    phases.changed_tensors = 0
    with pytest.raises(NothingTrained, match=r"no weight in 1 optimiser step.*Raise train\.learning_rate"):
        await maker.made(held, registry, SPEC, "base")
    assert [phase for phase, _, _ in phases.started] == ["train"]
    assert registry.versions() == ["base"]


async def test_a_later_round_is_compared_with_the_version_of_the_first(
    phases: Phases, held: HeldTraining, maker: CandidateMaker, registry: CheckpointRegistry
) -> None:
    first, _ = await maker.made(held, registry, SPEC, "base")
    await maker.made(held, registry, SPEC, first, round_=2, before="base")
    _, config, _ = phases.started[-1]
    assert (config.round, config.base_version, config.before_folder) == (2, first, registry.local("base"))


async def test_a_process_that_leaves_no_result_is_named(
    phases: Phases, held: HeldTraining, maker: CandidateMaker, registry: CheckpointRegistry
) -> None:
    phases.leaves_results = False
    with pytest.raises(NotFound, match=r"The training left no result in .*result\.json"):
        await maker.made(held, registry, SPEC, "base")
