"""What happens besides the steps of a training: progress, divergence, saved steps and reports, one callback each.

The trainer only does the steps. It notes what it sees of each in its measures, where the callbacks read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import PrinterCallback, Trainer
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from services.trainer.leveler.callbacks.divergence import DivergenceWatch
from services.trainer.leveler.callbacks.measures import StepMeasures
from services.trainer.leveler.callbacks.progress import ProgressFile
from services.trainer.leveler.callbacks.reports import ProgressInReports
from services.trainer.leveler.callbacks.saved_steps import SavedSteps
from services.trainer.leveler.distributed import gather_rows


def add_callbacks(
    trainer: Trainer,
    measures: StepMeasures,
    progress_file: Path,
    *,
    samples_per_step: int,
    vocabulary: int,
    report_to: Sequence[str] = (),
) -> ProgressFile:
    """Add all of them to ``trainer``, in the order in which they need each other; returns the one with the progress.

    ``report_to`` names reporters of transformers, such as ``tensorboard``.
    """
    progress = ProgressFile(
        progress_file, measures, samples_per_step=samples_per_step, gather=gather_rows(trainer.accelerator)
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(progress)
    trainer.add_callback(DivergenceWatch(measures, progress, vocabulary))
    trainer.add_callback(SavedSteps(trainer.accelerator.wait_for_everyone))
    trainer.add_callback(ProgressInReports(progress))
    for reporter in get_reporting_integration_callbacks(list(report_to)):  # type: ignore[no-untyped-call]
        trainer.add_callback(reporter)
    return progress
