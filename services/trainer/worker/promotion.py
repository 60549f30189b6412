"""Publishes a candidate and makes the running student serve it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable

from services.trainer.run_config import EvaluationResult, RunConfig, TrainResult
from shared.backoff import Backoff
from shared.checkpoints import CheckpointRegistry, build_card
from shared.checkpoints.adapters import describe_adapter
from shared.client import StudentClient
from shared.errors import BadCheckpoint, NotFound, Unavailable, UpstreamError
from shared.vqa.tasks import answer_prompts, load_profiles

logger = logging.getLogger(__name__)

BACKOFF = Backoff(1.0, 30.0)
_REFUSED = frozenset({400, 404, 409, 422})


def version_of(registry: CheckpointRegistry, job_id: str, set_digest: str, round_: int = 1) -> str:
    """``job-<job_id>``, from the second round on with ``-r<round>``; if that name already holds a checkpoint
    of another set (a retried job), the set's digest is added.
    """
    version = f"job-{job_id}" + (f"-r{round_}" if round_ > 1 else "")
    try:
        known = registry.card(version)
    except (NotFound, BadCheckpoint):
        return version
    return version if known.set_digest == set_digest else f"{version[:50]}-{set_digest[:8]}"


def publish(registry: CheckpointRegistry, config: RunConfig, trained: TrainResult, measured: EvaluationResult) -> str:
    """Publish the candidate with its lineage, even if it will not be promoted. Returns its version. Idempotent."""
    version = version_of(registry, config.job_id, config.set_digest, config.round)
    if version in registry.versions():
        return version
    tasks = dict.fromkeys([*config.spec.tasks, *measured.evaluation.tasks])
    card = build_card(
        config.candidate,
        version=version,
        student=config.spec.student,
        base=config.base_version,
        job_id=config.job_id,
        set_digest=config.set_digest,
        seed=config.spec.seed,
        train=config.spec.train,
        loss={**trained.loss_weights, "final": trained.final_loss},
        evaluation=measured.evaluation,
        smoke=measured.smoke,
        teacher=config.teacher_name,
        prompts=answer_prompts(load_profiles(config.tasks_file), tasks),
        adapter=describe_adapter(config.candidate, config.base_version),
    )
    registry.publish(config.candidate, card)
    return version


async def promote(
    registry: CheckpointRegistry,
    student: StudentClient,
    version: str,
    by: str,
    *,
    swap_timeout: float,
    say_waiting: Callable[[str | None], None],
) -> None:
    """Have the student check and serve ``version``, then make it the registry's active one.

    Waits as long as the student is down or busy, and says so. Raises BadCheckpoint with the student's reason if it
    refuses: then the old version keeps serving and stays active.
    """
    for failures in itertools.count(1):
        delay = BACKOFF.delay(failures)
        try:
            await student.activate(version, by, timeout=swap_timeout)
            break
        except UpstreamError as error:
            if error.upstream_status in _REFUSED:
                raise BadCheckpoint(f"The student refuses checkpoint {version}: {error.detail}") from error
            reason = error.detail
        except Unavailable as error:
            reason = error.detail
            delay = max(delay, error.retry_after or 0.0)
        logger.warning("checkpoint %s waits for the student: %s", version, reason, extra={"checkpoint": version})
        say_waiting(f"the student service, to promote {version}: {reason}")
        await asyncio.sleep(delay)
    say_waiting(None)
    await asyncio.to_thread(registry.set_active, version, by)
