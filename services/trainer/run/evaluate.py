"""The step ``evaluate``: what the candidate answers, and what the version answered that it is compared with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from services.trainer.data.dataset import check_images, read_held_out
from services.trainer.evaluation.answering import Asker, Question
from services.trainer.evaluation.benchmark import read_benchmark
from services.trainer.evaluation.evaluate import evaluate
from services.trainer.run.inputs import load_checkpoint, open_asker, open_store
from services.trainer.run_config import EvaluationResult, RunConfig
from shared.client import ChatClient
from shared.settings import TrainerSettings

_TEACHER_CALLS = 8


def run_evaluation(config: RunConfig) -> EvaluationResult:
    """Ask both checkpoints the held-out questions and the benchmark, and the teacher the benchmark."""
    store = open_store(config)
    held_out = read_held_out(store, config.job_id)
    new = read_held_out(store, config.job_id, config.round) if config.round > 1 else []
    check_images([*held_out, *new])
    with open_asker(config, store) as asker:
        benchmark = config.spec.benchmark
        measuring = evaluate(
            asker,
            lambda: load_checkpoint(config, config.before_folder or config.base_folder, config.device),
            lambda: load_checkpoint(config, config.candidate, config.device),
            held_out,
            read_benchmark(Path(benchmark), asker.profiles) if benchmark else [],
            config.spec.identifier,
            batch_size=config.eval_batch_size,
            new=new,
            ask_teacher=lambda questions: _ask_teacher(config, asker, questions),
        )
        return asyncio.run(measuring)


async def _ask_teacher(config: RunConfig, asker: Asker, questions: Sequence[Question]) -> list[str] | None:
    settings = TrainerSettings()
    key = settings.teacher_api_key or settings.api_key
    async with ChatClient(
        config.teacher_url,
        model=config.teacher_name,
        api_key=key.get_secret_value() if key else None,
        timeout=config.call_timeout,
        max_connections=_TEACHER_CALLS,
    ) as teacher:
        return await asker.teacher_answers(teacher, questions, _TEACHER_CALLS, settings.teacher_reasoning_tokens)
