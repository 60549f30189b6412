"""One job from ``training`` to its end: train, evaluate, gate, promote. Every step is idempotent, so a restarted worker
continues where the last one stopped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry
from redis.exceptions import RedisError

from services.trainer.data.dataset import read_training_set
from services.trainer.errors import NothingTrained, can_be_retried
from services.trainer.evaluation.benchmark import read_benchmark
from services.trainer.launch.command import check_batch, check_fit, check_reporters, read_launch
from services.trainer.launch.rendezvous import Together
from services.trainer.metrics import TrainerMetrics
from services.trainer.worker.candidate import CandidateMaker
from services.trainer.worker.gate import decide
from services.trainer.worker.promotion import promote
from services.trainer.worker.rounds import judged, mined, trained
from services.trainer.worker.training import HeldTraining
from services.trainer.worker.workspace import Workspace
from shared.backoff import RestartDelays
from shared.checkpoints import CheckpointRegistry
from shared.checkpoints.canaries import CanaryRegistry, owner_of
from shared.client import StudentClient
from shared.contracts import Evaluation, JobSpec, JobState, Outcome, RoundReport
from shared.errors import Damaged, LeaseLost, MPAError, NewerSchema, NotFound
from shared.sets import missing_shards, read_set, set_damaged_aside, shard_key
from shared.sets.rounds import publish_round, read_rounds
from shared.settings import TrainerSettings
from shared.state import JobStore, Lease, redis_trouble
from shared.state.keeping import keep_lease
from shared.store import Store
from shared.store.trouble import disk_trouble
from shared.store.waiting import STORAGE_RETRIES
from shared.telemetry.tracing import span
from shared.vqa.tasks import load_profiles

logger = logging.getLogger(__name__)

REGISTRY_PAUSE = 2.0
NOTHING_TO_LEARN = "The set has no disparity pair to train on: the student answers like the teacher."


class TrainingFlow:
    """Runs trainings for one worker."""

    def __init__(
        self,
        settings: TrainerSettings,
        store: Store,
        jobs: JobStore,
        owner: str,
        metrics: TrainerMetrics | None = None,
        together: Together | None = None,
    ) -> None:
        """With ``together`` the trainings are shared with processes on other machines."""
        self._settings, self._store, self._jobs, self._owner = settings, store, jobs, owner
        self._metrics = metrics or TrainerMetrics(CollectorRegistry())
        self._maker = CandidateMaker(settings, store, jobs, self._metrics, together)
        self._processes = together.place.count if together else 1

    async def run(self, job_id: str) -> None:
        """Do the rest of the job's training; nothing if another worker has it or it has ended.

        Cancelling gives the training back, and any other worker continues from the last saved step.
        """
        ttl = self._settings.lease.total_seconds()
        try:
            lease = await self._jobs.trainings.acquire(job_id, self._owner, ttl, self._settings.train_attempts)
        except (NotFound, NewerSchema, Damaged) as error:
            logger.warning("%s", error.detail, extra={"job_id": job_id})
            return
        if lease is None:
            logger.info("there is nothing to train, or another trainer does it", extra={"job_id": job_id})
            return
        held = HeldTraining(lease)

        async def renew() -> None:
            await self._jobs.trainings.heartbeat(lease, ttl, held.progress, held.waiting_for)

        try:
            with self._metrics.job():
                async with keep_lease(lease, ttl, renew, held.changed):
                    await self._work_when_stored(held, job_id)
            self._metrics.ended("done")
        except LeaseLost as error:
            self._metrics.ended("lease_lost")
            logger.warning("stopped: %s", error.detail, extra={"job_id": job_id})
        except asyncio.CancelledError:
            self._metrics.ended("given_back")
            with suppress(LeaseLost, RedisError, OSError):
                await asyncio.shield(self._jobs.trainings.release(lease))
            logger.info("gave the training back", extra={"job_id": job_id})
            raise
        except Exception as error:
            self._metrics.ended("failed")
            await self._failed(lease, error)

    async def _failed(self, lease: Lease, error: Exception) -> None:
        words = (
            error.detail if isinstance(error, MPAError) else f"The trainer failed ({type(error).__name__}: {error})."
        )
        logger.error("%s", words, extra={"job_id": lease.job_id}, exc_info=not isinstance(error, MPAError))
        attempts = self._settings.train_attempts if can_be_retried(error) else lease.attempt
        try:
            await self._jobs.trainings.fail(lease, words, attempts)
        except (MPAError, RedisError, OSError) as problem:
            logger.warning(
                "could not record the failure; the training becomes free when its lease expires: %s",
                problem,
                extra={"job_id": lease.job_id},
            )

    async def _work_when_stored(self, held: HeldTraining, job_id: str) -> None:
        """Do the work. Trouble of the store, of a disk or of Redis costs no attempt: every step can be repeated."""
        pauses = RestartDelays(STORAGE_RETRIES, STORAGE_RETRIES.longest)
        while True:
            begun = time.monotonic()
            try:
                return await self._work(held, job_id)
            except LeaseLost:
                raise
            except RedisError as error:  # the lease's keeper ends the work if it lasts too long
                waiting_for = redis_trouble(error)
            except Exception as error:
                trouble = disk_trouble(error)
                if trouble is None:
                    raise
                waiting_for = trouble.waiting_for
            pause = pauses.after_run(time.monotonic() - begun)
            logger.warning("waits %.0f s: %s", pause, waiting_for, extra={"job_id": job_id})
            held.wait_for(waiting_for)
            await asyncio.sleep(pause)
            held.wait_for(None)

    async def _work(self, held: HeldTraining, job_id: str) -> None:
        snapshot = await self._jobs.snapshot(job_id)
        spec = snapshot.stored.spec
        await asyncio.to_thread(self._check_set, job_id, snapshot.info.round * snapshot.stored.shards)
        registry = CheckpointRegistry(self._store, spec.student)
        await asyncio.to_thread(self._check_inputs, spec)
        if spec.rounds.max > 1:
            await self._round(held, registry, spec, snapshot.info.round)
            return
        data = await asyncio.to_thread(read_training_set, self._store, job_id)
        if data.disparity == 0:
            await self._jobs.trainings.advance(held.lease, JobState.EVALUATING)
            await self._jobs.trainings.finish(held.lease, Outcome.NO_GAP, NOTHING_TO_LEARN)
            return
        serving = await _serving_version(held, registry)
        version, measured = await self._maker.made(held, registry, spec, serving)
        await self._decide(held, registry, spec, measured.evaluation, version)

    async def _round(self, held: HeldTraining, registry: CheckpointRegistry, spec: JobSpec, number: int) -> None:
        """Finish one round, then go on to the next one, or to the gate with the last good candidate."""
        job_id, log = held.lease.job_id, partial(read_rounds, self._store, held.lease.job_id)
        if len(await asyncio.to_thread(log)) < number:
            report = await self._concluded(held, registry, spec, number)
            report = await asyncio.to_thread(publish_round, self._store, job_id, report)
            logger.info("round %d is over: %s", number, report.reason, extra={"job_id": job_id})
        rounds = await asyncio.to_thread(log)
        await self._jobs.trainings.advance(held.lease, JobState.EVALUATING, rounds=rounds)
        final = judged(rounds)
        if rounds[-1].goes_on:
            await self._jobs.trainings.next_round(held.lease, rounds)
        elif final is None or final.candidate is None or final.evaluation is None:
            await self._jobs.trainings.finish(held.lease, Outcome.NO_GAP, NOTHING_TO_LEARN)
        else:
            await self._decide(held, registry, spec, final.evaluation, final.candidate)

    async def _concluded(
        self, held: HeldTraining, registry: CheckpointRegistry, spec: JobSpec, number: int
    ) -> RoundReport:
        """Train on what the round mined and measure the candidate, if that is worthwhile."""
        job_id = held.lease.job_id
        past = await asyncio.to_thread(read_rounds, self._store, job_id)
        student = past[-1].candidate if past else await self._first_student(held, registry)
        assert student is not None
        data = await asyncio.to_thread(read_training_set, self._store, job_id, number)
        rows = await asyncio.to_thread(read_set, self._store, job_id, rounds=[number])
        found = mined(spec, number, student, rows, data.disparity)
        if not found.worth_training:
            return found.report
        before = past[0].student if past else None
        try:
            version, measured = await self._maker.made(held, registry, spec, student, number, before)
        except NothingTrained as error:
            if not past:
                raise
            return found.report.model_copy(update={"reason": error.detail})
        return trained(spec, found.report, past, version, measured)

    async def _first_student(self, held: HeldTraining, registry: CheckpointRegistry) -> str:
        """The version that round 1 trains from and all rounds are compared with: the one active at its start."""
        begun = await asyncio.to_thread(Workspace(self._store, held.lease.job_id).started_from)
        return begun or await _serving_version(held, registry)

    async def _decide(
        self,
        held: HeldTraining,
        registry: CheckpointRegistry,
        spec: JobSpec,
        evaluation: Evaluation,
        version: str,
    ) -> None:
        job_id = held.lease.job_id
        decision = decide(evaluation, spec.gate)
        known = {"evaluation": evaluation, "checkpoint": version, "checkpoint_url": registry.url(version)}
        logger.info("gate: %s", decision.reason, extra={"job_id": job_id, "checkpoint": version})
        if not decision.promote:
            await self._jobs.trainings.finish(held.lease, Outcome.KEPT, decision.reason, **known)  # type: ignore[arg-type]
            return
        await self._jobs.trainings.advance(held.lease, JobState.PROMOTING, **known)  # type: ignore[arg-type]
        if spec.rounds.max > 1:
            # Makes room for the swap if the last round has left its candidate behind.
            private = CanaryRegistry(self._store, spec.student)
            await asyncio.to_thread(private.end_private, owner_of(job_id), "the rounds are over")
        async with self._student() as student:
            with self._metrics.phase("promote"), span("promote", {"mpa.checkpoint": version}):
                await promote(
                    registry,
                    student,
                    version,
                    f"job {job_id}",
                    swap_timeout=self._settings.student_swap_timeout.total_seconds(),
                    say_waiting=held.wait_for,
                )
        await self._jobs.trainings.finish(held.lease, Outcome.PROMOTED, decision.reason, **known)  # type: ignore[arg-type]

    def _check_set(self, job_id: str, shards: int) -> None:
        """Raises Damaged unless all shards are whole. Damaged ones are set aside, so that a retry collects them."""
        damaged = set_damaged_aside(self._store, job_id)
        missing = missing_shards(self._store, job_id, range(shards))
        if missing:
            what = f"{len(damaged)} of them are damaged and set aside in jobs/{job_id}/damaged, the others are gone"
            raise Damaged(
                f"{len(missing)} of the set's {shards} shards cannot be read ({what}); the first is "
                f"{shard_key(job_id, missing[0])}. Retry the job to collect them again."
            )

    def _check_inputs(self, spec: JobSpec) -> None:
        """Find a bad benchmark, or processes that cannot share the batches, before training. Raises InvalidInput."""
        check_reporters(self._settings.train_report_to)
        if self._settings.train_accelerate_config is not None:
            check_fit(read_launch(self._settings.train_accelerate_config), spec.train)
        check_batch(self._processes, spec.train)
        if spec.benchmark:
            read_benchmark(Path(spec.benchmark), load_profiles(self._settings.tasks_file))

    def _student(self) -> StudentClient:
        key = self._settings.api_key
        return StudentClient(
            self._settings.student_url,
            model=self._settings.student_name,
            api_key=key.get_secret_value() if key else None,
            timeout=self._settings.call_timeout.total_seconds(),
        )


async def _serving_version(held: HeldTraining, registry: CheckpointRegistry) -> str:
    """The version to train from: the active one. Waits until the student service has registered one."""
    while True:
        try:
            version = (await asyncio.to_thread(registry.active)).version
        except NotFound as error:
            held.wait_for(error.detail)
            await asyncio.sleep(REGISTRY_PAUSE)
        else:
            held.wait_for(None)
            return version
