"""``python -m services.trainer.run train|evaluate <run.json>``: one step of one training in a process of its own.

The separate process keeps the training's memory, threads and crashes away from the worker, and a kill stops all of
it. A launcher may start several processes for one training: then the first holds the lock and writes the results.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from opentelemetry.trace import SpanKind
from transformers.utils import logging as transformers_logging

from services.trainer.launch.ranks import Ranks
from services.trainer.run.evaluate import run_evaluation
from services.trainer.run.failures import report_failure
from services.trainer.run.lifetime import end_now, end_with_parent, hold_folder
from services.trainer.run.train import run_training
from services.trainer.run_config import TRACE_VARIABLE, RunConfig, load, save
from shared.settings import TrainerSettings
from shared.telemetry import log_fields, setup_logging
from shared.telemetry.tracing import open_traces

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """0: done; 1: failed, with the reason in ``failure.json``."""
    phase, path = arguments
    config = load(RunConfig, Path(path))
    if config is None:
        raise SystemExit(f"{path} is not a run configuration")
    settings, ranks = TrainerSettings(), Ranks.of()
    setup_logging("trainer-run", settings)
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    end_with_parent()
    torch.set_num_threads(max(1, config.threads // ranks.beside))
    try:
        with log_fields(job_id=config.job_id), _traced(phase, settings, ranks), report_failure(config, phase):
            _run(phase, config, ranks)
    except Exception:
        # A process that waits for the other ones while it exits would never end.
        return end_now(1) if ranks.count > 1 else 1
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return 0


def _run(phase: str, config: RunConfig, ranks: Ranks) -> None:
    with hold_folder(config.folder) if ranks.is_first else nullcontext():
        logger.info("step '%s' of round %d begins", phase, config.round)
        if phase == "evaluate":
            save(config.folder / "evaluation.json", run_evaluation(config))
            return
        result = run_training(config, ranks)
        if ranks.is_first:
            save(config.folder / "result.json", result)


@contextmanager
def _traced(phase: str, settings: TrainerSettings, ranks: Ranks) -> Iterator[None]:
    """In the worker's trace, with the calls to the teacher below; without a trace where the worker has none."""
    parent = os.environ.get(TRACE_VARIABLE)
    traces = open_traces("trainer-run", settings) if parent else None
    if traces is None:
        yield
        return
    try:
        with traces.root(f"run {phase}", SpanKind.INTERNAL, parent, {"mpa.rank": ranks.index}):
            yield
    finally:
        traces.close()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
