"""Task profiles by name: the built-in ones and those of a YAML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from shared.contracts import AnswerPrompt
from shared.vqa.builtin import BUILT_IN
from shared.vqa.profiles import Prompts, TaskProfile
from shared.vqa.task_files import read_task_file

__all__ = ["Prompts", "TaskProfile", "answer_prompts", "load_profiles"]


def load_profiles(tasks_file: Path | None = None) -> dict[str, TaskProfile]:
    """The built-in profiles and those of ``tasks_file``, by name.

    Raises InvalidInput that names the file, the task and the field.
    """
    profiles = {profile.name: profile for profile in BUILT_IN}
    if tasks_file is not None:
        profiles |= read_task_file(tasks_file, taken=profiles.keys())
    return profiles


def answer_prompts(profiles: Mapping[str, TaskProfile], tasks: Iterable[str]) -> list[AnswerPrompt]:
    """How the questions of ``tasks`` are put to the student, for the card of a checkpoint."""
    return [
        AnswerPrompt(task=name, prompt=profiles[name].prompts.answer, max_tokens=profiles[name].max_answer_tokens)
        for name in tasks
        if name in profiles
    ]
