"""Which prompt a benchmark's questions are put in: that of production, or the command does not ask at all.

A model that was aligned with one prompt answers another one much worse, so a wrong prompt measures the prompt. From the
surest source to the weakest: ``--prompt``, the file of ``--tasks-file``, the card of the checkpoint that answers, the
task profiles of the running parity service, and the built-in ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from services.cli.benchmark.labelled import BenchmarkItem
from shared.client import ParityClient, StudentClient
from shared.compatibility import read_shown
from shared.contracts import AnswerPrompt, CheckpointCard
from shared.errors import InvalidInput, MPAError
from shared.settings import ClientSettings
from shared.vqa.builtin import BUILT_IN
from shared.vqa.task_files import read_task_file
from shared.vqa.tasks import answer_prompts

MAX_TOKENS = 24
PEEK_SECONDS = 2.0
CARD = "mpa_card.json"


@dataclass(frozen=True)
class PromptSource:
    """Prompts by task, and where they are from, in words."""

    name: str
    prompts: Mapping[str, AnswerPrompt]


@dataclass(frozen=True)
class ChosenPrompt:
    """What an item is asked with. ``source`` says where the prompt is from."""

    prompt: str
    max_tokens: int
    source: str

    def of(self, question: str) -> str:
        """Braces in ``question`` are not placeholders."""
        return self.prompt.replace("{question}", question)


def given_prompt(prompt: str, max_tokens: int | None) -> ChosenPrompt:
    """The prompt of ``--prompt``. Raises InvalidInput unless it has a place for the question."""
    if "{question}" not in prompt:
        raise InvalidInput("--prompt must contain {question}, which is where the question goes.")
    return ChosenPrompt(prompt, max_tokens or MAX_TOKENS, "--prompt")


def choose_prompts(
    benchmark: str,
    items: Sequence[BenchmarkItem],
    sources: Sequence[PromptSource],
    *,
    task: str | None,
    max_tokens: int | None,
) -> dict[str, ChosenPrompt]:
    """The prompt of every item, by its id.

    An item's task is ``task`` (``--task``), else the one that its row names, else the benchmark's name. Raises
    InvalidInput if no source knows it, unless the surest source asks all its tasks alike.
    """
    chosen = {name: _choose(name, sources, max_tokens) for name in {task or one.task or benchmark for one in items}}
    return {item.id: chosen[task or item.task or benchmark] for item in items}


def describe_prompts(items: Iterable[BenchmarkItem], chosen: Mapping[str, ChosenPrompt]) -> dict[str, Any]:
    """The prompts by task, for the run's records."""
    by_task = {item.task or "all": asdict(chosen[item.id]) for item in items}
    one = next(iter(by_task.values()))
    return {"all": one} if all(other == one for other in by_task.values()) else dict(sorted(by_task.items()))


def file_prompts(path: Path) -> PromptSource:
    """The profiles of a task file. Raises InvalidInput that names the file, the task and the field."""
    return _source(f"the task file {path}", answer_prompts(profiles := read_task_file(path), profiles))


def card_prompts(folder: Path) -> PromptSource:
    """The prompts on the card of a checkpoint folder; none if it has no card, as a base model."""
    try:
        card = read_shown(CheckpointCard, (folder / CARD).read_bytes())
    except (OSError, ValidationError, ValueError):
        return _source("no card", [])
    return _source(f"the card of {card.version}", card.prompts)


async def served_prompts(url: str, key: str | None, model: str) -> PromptSource:
    """The prompts of the checkpoint that ``url`` serves; none if it is not a student service of ours."""
    try:
        async with StudentClient(url, model=model, api_key=key, timeout=PEEK_SECONDS) as client:
            found = await client.checkpoints()
    except MPAError:
        return _source("no card", [])
    wanted = model.partition("@")[2] or found.active
    prompts = [one.prompts for one in found.checkpoints if one.version == wanted]
    return _source(f"the card of {wanted}", prompts[0] if prompts else [])


async def profile_prompts(settings: ClientSettings) -> PromptSource:
    """The profiles of the running parity service; none if it does not answer."""
    key = settings.api_key.get_secret_value() if settings.api_key else None
    try:
        async with ParityClient(settings.parity_url, api_key=key, timeout=PEEK_SECONDS) as client:
            tasks = (await client.tasks()).tasks
    except MPAError:
        return _source("no service", [])
    known = [
        AnswerPrompt(task=one.name, prompt=one.answer_prompt, max_tokens=one.max_answer_tokens)
        for one in tasks
        if "{question}" in one.answer_prompt and one.max_answer_tokens
    ]
    return _source(f"the task profiles of {settings.parity_url}", known)


def built_in_prompts() -> PromptSource:
    profiles = {profile.name: profile for profile in BUILT_IN}
    return _source("the built-in task profiles", answer_prompts(profiles, profiles))


def _choose(name: str, sources: Sequence[PromptSource], max_tokens: int | None) -> ChosenPrompt:
    for source in sources:
        if name in source.prompts:
            found = source.prompts[name]
            return ChosenPrompt(found.prompt, max_tokens or found.max_tokens, source.name)
    surest = next((source for source in sources if source.prompts), None)
    alike = {(one.prompt, one.max_tokens) for one in surest.prompts.values()} if surest else set()
    if surest is not None and len(alike) == 1:
        prompt, tokens = alike.pop()
        return ChosenPrompt(prompt, max_tokens or tokens, surest.name)
    known = sorted({task for source in sources for task in source.prompts})
    raise InvalidInput(
        f"No task profile {name!r} is known, so it is not clear how the model wants to be asked. Name a task with "
        f"--task ({', '.join(known)}), give your own profiles with --tasks-file, or write the prompt with --prompt."
    )


def _source(name: str, prompts: Iterable[AnswerPrompt]) -> PromptSource:
    return PromptSource(name, {one.task: one for one in prompts})
