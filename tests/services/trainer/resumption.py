"""Where a training is, and proof that it went on from its last saved step instead of starting again."""

from __future__ import annotations

from pathlib import Path

from services.trainer.leveler import last_complete_step
from services.trainer.run_config import Progress, RunConfig, last_progress, read_progress


def saved_progress(folder: Path) -> list[Progress]:
    """The progress of a stopped training in ``folder``, up to its last saved step: what a resumed one must keep."""
    saved = last_complete_step(folder / "steps", clean=False)
    assert saved is not None, "the training was stopped before it saved a step"
    last = int(saved.name.rpartition("-")[2])
    kept = [line for line in read_progress(folder / "progress.jsonl") if line.step <= last]
    assert [line.step for line in kept] == list(range(1, last + 1))
    return kept


def check_resumed(folder: Path, kept: list[Progress], steps: int) -> None:
    """The steps of ``kept`` were not done again, and those after them were, up to ``steps``.

    A step that is done again gets a line with the same loss, but with another speed, time left and memory.
    """
    lines = read_progress(folder / "progress.jsonl")
    assert lines[: len(kept)] == kept, "the steps before the last saved one were done again"
    assert len(kept) < steps, "nothing was left to do"
    assert [line.step for line in lines] == list(range(1, steps + 1))


def step_of(config: RunConfig) -> int:
    """The last step that the training reported; 0 before the first."""
    line = last_progress(config.progress_file)
    return line.step if line else 0
