"""A job's candidate: trained and measured by separate processes, then published. Finished steps are not repeated."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from services.trainer.errors import NothingTrained
from services.trainer.launch.child import run_phase
from services.trainer.launch.rendezvous import Together
from services.trainer.metrics import TrainerMetrics
from services.trainer.run_config import (
    TRACE_VARIABLE,
    EvaluationResult,
    RunConfig,
    TrainResult,
    last_progress,
    load,
)
from services.trainer.worker.promotion import publish
from services.trainer.worker.training import HeldTraining
from services.trainer.worker.workspace import Workspace
from shared.checkpoints import CheckpointRegistry
from shared.contracts import JobSpec, JobState, TrainingProgress, finite
from shared.errors import NotFound, StorageUnavailable
from shared.sets import set_digest
from shared.settings import TrainerSettings
from shared.state import JobStore
from shared.store import Store
from shared.store.waiting import when_stored
from shared.telemetry.tracing import HEADER, span, trace_headers

logger = logging.getLogger(__name__)

MIRROR_AGAIN = 10.0
"""Seconds until saved steps are mirrored again after the store was in trouble."""


class CandidateMaker:
    """Makes candidates for one worker, in folders of the store."""

    def __init__(
        self,
        settings: TrainerSettings,
        store: Store,
        jobs: JobStore,
        metrics: TrainerMetrics,
        together: Together | None = None,
    ) -> None:
        self._settings, self._store, self._jobs, self._metrics = settings, store, jobs, metrics
        self._together = together

    async def made(
        self,
        held: HeldTraining,
        registry: CheckpointRegistry,
        spec: JobSpec,
        start: str,
        round_: int = 1,
        before: str | None = None,
    ) -> tuple[str, EvaluationResult]:
        """Train from version ``start``, compare with ``before`` (None: the same) and publish; the candidate's version
        and scores. Raises NothingTrained if that changed no weight.
        """
        workspace = Workspace(self._store, held.lease.job_id, round_)
        config = await asyncio.to_thread(self._config, workspace, registry, start, held.lease.job_id, spec)
        if before is not None:
            config = replace(config, round=round_, before_folder=await asyncio.to_thread(registry.local, before))
        trained = await self._trained(held, workspace, config)
        await when_stored(partial(workspace.publish_curves, config.curves), held.wait_for)
        if trained.changed_tensors == 0:
            raise NothingTrained(_unchanged(trained, spec))
        await self._jobs.trainings.advance(held.lease, JobState.EVALUATING)
        measured = await self._measured(held, config)
        version = await when_stored(partial(publish, registry, config, trained, measured), held.wait_for)
        await when_stored(partial(workspace.discard_steps, config.folder), held.wait_for)
        return version, measured

    async def _trained(self, held: HeldTraining, workspace: Workspace, config: RunConfig) -> TrainResult:
        result = config.folder / "result.json"

        mirror_at = 0.0

        async def watch() -> None:
            nonlocal mirror_at
            line = await asyncio.to_thread(last_progress, config.progress_file)
            if line is not None:
                shown = TrainingProgress(**finite(asdict(line)))
                held.report(shown)
                self._metrics.progress(shown)
            if time.monotonic() < mirror_at:
                return
            try:
                await asyncio.to_thread(workspace.mirror, config.folder)
            except StorageUnavailable as error:  # the training goes on without it
                logger.warning("saved steps are not mirrored: %s", error.detail, extra={"job_id": config.job_id})
                mirror_at = time.monotonic() + MIRROR_AGAIN

        if await asyncio.to_thread(load, TrainResult, result) is None:
            with self._metrics.phase("train"), span("train"):
                others = await asyncio.to_thread(self._together.announce, config) if self._together else {}
                await run_phase(config, "train", watch, self._environment() | others)
        await watch()
        await when_stored(partial(workspace.mirror, config.folder), held.wait_for)
        return await asyncio.to_thread(_must_load_training, result)

    async def _measured(self, held: HeldTraining, config: RunConfig) -> EvaluationResult:
        result = config.folder / "evaluation.json"
        if await asyncio.to_thread(load, EvaluationResult, result) is None:
            with self._metrics.phase("evaluate"), span("evaluate"):
                await run_phase(config, "evaluate", _nothing, self._environment())
        measured = await asyncio.to_thread(load, EvaluationResult, result)
        if measured is None:
            raise NotFound(f"The evaluation left no result in {result}.")
        return measured

    def _config(
        self, workspace: Workspace, registry: CheckpointRegistry, serving: str, job_id: str, spec: JobSpec
    ) -> RunConfig:
        settings = self._settings
        digest = set_digest(self._store, job_id)
        start = workspace.begin(serving, digest)
        return RunConfig(
            job_id=job_id,
            spec=spec,
            folder=workspace.folder(),
            base_version=start.base_version,
            base_folder=registry.local(start.base_version),
            store_url=settings.store_url,
            cache_dir=settings.data_dir.absolute() / "cache",
            set_digest=digest,
            tasks_file=settings.tasks_file,
            device=settings.train_device,
            threads=settings.train_threads,
            trust_remote_code=settings.trust_remote_code,
            eval_batch_size=settings.eval_batch_size,
            cache_bytes=int(settings.train_cache),
            max_image_bytes=int(settings.max_image_bytes),
            max_image_pixels=settings.max_image_pixels,
            min_image_side=settings.min_image_side,
            allow_image_urls=settings.allow_image_urls,
            allow_private_image_urls=settings.allow_private_image_urls,
            teacher_url=settings.teacher_url,
            teacher_name=settings.teacher_name,
            call_timeout=settings.call_timeout.total_seconds(),
            accelerate_config=settings.train_accelerate_config and settings.train_accelerate_config.absolute(),
            report_to=tuple(settings.train_report_to),
        )

    def _environment(self) -> dict[str, str]:
        """Secrets are passed in the environment, never in ``run.json``."""
        keys = {"MPA_API_KEY": self._settings.api_key, "MPA_TEACHER_API_KEY": self._settings.teacher_api_key}
        secrets = {name: key.get_secret_value() for name, key in keys.items() if key is not None}
        trace = {TRACE_VARIABLE: found} if (found := trace_headers().get(HEADER)) else {}
        return {
            **secrets,
            **trace,
            "MPA_LOG_FORMAT": self._settings.log_format,
            "MPA_LOG_LEVEL": self._settings.log_level,
        }


def _must_load_training(path: Path) -> TrainResult:
    result = load(TrainResult, path)
    if result is None:
        raise NotFound(f"The training left no result in {path}.")
    return result


def _unchanged(trained: TrainResult, spec: JobSpec) -> str:
    return (
        f"The training changed no weight in {trained.steps} optimiser step(s) with train.learning_rate "
        f"{spec.train.learning_rate:g}: the changes are smaller than the dtype of the stored weights can hold. Raise "
        "train.learning_rate, train.epochs or train.max_steps, or take a base that is stored in float32."
    )


async def _nothing() -> None:
    """Evaluation reports no progress of its own."""
