"""Collects one shard: every image × task × question slot ends as a row; the rows are published as one file."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from services.parity.endpoints.endpoint import Patience, Upstream
from services.parity.endpoints.limiter import Throttle
from services.parity.images.picture import Picture, digest, prepare, split_of
from services.parity.mining.annotator import Annotator, Draft
from services.parity.mining.discrepancies import GapMeter, rounded
from services.parity.mining.identifier import Identifier
from services.parity.mining.question_plan import RoundPlan
from shared.client import ChatClient
from shared.concurrency import run_all
from shared.contracts import JobSpec, ManifestEntry, Verdict
from shared.errors import UpstreamError
from shared.images import ImageLimits, UnreadableImage
from shared.images.files import ImageFiles
from shared.sets import Row
from shared.telemetry.tracing import span, unrecorded
from shared.vqa.tasks import TaskProfile

log = logging.getLogger(__name__)

# So many readable images must all have been refused before the shard blames the model server, not the images.
REFUSED_IMAGES = 4


@dataclass(frozen=True)
class Models:
    """How to reach the two models. ``calls_in_flight`` bounds the calls to each of them.

    The shards of a worker process share its throttles; None: a shard has throttles of its own.
    """

    teacher: ChatClient
    student: ChatClient
    calls_in_flight: int
    patience: Patience | None = None
    teacher_calls: Throttle | None = None
    student_calls: Throttle | None = None


class ShardCollector:
    """One shard in work. ``rows`` grows as images end; ``changed`` is set when something worth telling happened."""

    def __init__(
        self,
        job_id: str,
        shard: int,
        spec: JobSpec,
        entries: list[ManifestEntry],
        *,
        models: Models,
        profiles: Mapping[str, TaskProfile],
        files: ImageFiles,
        limits: ImageLimits,
        plan: RoundPlan | None = None,
        trace_every: int = 1,
    ) -> None:
        self.rows: list[Row] = []
        self.changed = asyncio.Event()
        teacher_calls = models.teacher_calls or Throttle("teacher", models.calls_in_flight)
        student_calls = models.student_calls or Throttle("student", models.calls_in_flight)
        self._teacher = Upstream("teacher", models.teacher, teacher_calls, self.changed, models.patience)
        self._student = Upstream("student", models.student, student_calls, self.changed, models.patience)
        self._plan = plan or RoundPlan(spec)
        self._annotator = Annotator(self._teacher, spec.annotator, self._plan.seed, spec.discrepancies.top_k)
        self._identifier = Identifier(self._teacher, self._student, spec.identifier, self._plan.seed)
        self._gaps = GapMeter(self._teacher, self._student, spec.discrepancies)
        self._job_id, self._shard, self._spec, self._entries = job_id, shard, spec, entries
        self._profiles, self._files, self._limits = profiles, files, limits
        self._trace_every = trace_every
        self._images_in_work = models.calls_in_flight

    @property
    def waiting_for(self) -> str | None:
        return self._teacher.waiting_for or self._student.waiting_for

    async def run(self) -> list[Row]:
        """All rows of the shard. Raises UpstreamError if a model server refuses whatever it is asked."""
        places = asyncio.Semaphore(self._images_in_work)
        await run_all(*(self._image(entry, places) for entry in self._entries))
        self._check_not_all_refused()
        return self.rows

    async def _image(self, entry: ManifestEntry, places: asyncio.Semaphore) -> None:
        traced = self._trace_every > 0 and entry.index % self._trace_every == 0
        async with places:
            with span("image", {"mpa.image": entry.index}) if traced else unrecorded():
                await self._asked(entry)

    async def _asked(self, entry: ManifestEntry) -> None:
        try:
            data = await asyncio.to_thread(self._files.read, entry.image)
        except UnreadableImage as error:
            self._add(self._unreadable(entry, None, error.detail))
            return
        try:
            picture = await asyncio.to_thread(prepare, data, self._limits)
        except UnreadableImage as error:
            self._add(self._unreadable(entry, digest(data), error.detail))
            return
        base = self._base(entry, picture.sha256)
        first, *others = (self._profiles[name] for name in entry.tasks)
        # The first call about an image goes alone, so that all others find the image in the teacher's prefix cache.
        drafts = await self._propose(base, picture, first)
        tasks = await run_all(
            self._slots(base, drafts, picture, first), *(self._task(base, picture, profile) for profile in others)
        )
        self._add([row for rows in tasks for row in rows])

    async def _task(self, base: Row, picture: Picture, profile: TaskProfile) -> list[Row]:
        return await self._slots(base, await self._propose(base, picture, profile), picture, profile)

    async def _propose(self, base: Row, picture: Picture, profile: TaskProfile) -> list[Draft]:
        asking = self._plan.asking(base.image_index, base.image_sha256, profile.name)
        return await self._annotator.propose(picture, profile, asking)

    async def _slots(self, base: Row, drafts: list[Draft], picture: Picture, profile: TaskProfile) -> list[Row]:
        return list(await run_all(*(self._slot(base, draft, picture, profile) for draft in drafts)))

    async def _slot(self, base: Row, draft: Draft, picture: Picture, profile: TaskProfile) -> Row:
        with span("pair", {"mpa.task": profile.name, "mpa.slot": draft.slot}) as traced:
            row = await self._judged(base, draft, picture, profile)
            if traced is not None:
                traced.set_attribute("mpa.verdict", str(row.verdict))
            return row

    async def _judged(self, base: Row, draft: Draft, picture: Picture, profile: TaskProfile) -> Row:
        draft = await self._annotator.answer(draft, picture, profile)
        row = replace(
            base,
            task=profile.name,
            slot=draft.slot,
            question=draft.question,
            teacher_answer=draft.answer,
            teacher_logprob=rounded(draft.logprob),
            prompt_tokens=draft.prompt_tokens,
            completion_tokens=draft.completion_tokens,
        )
        if draft.verdict is not None:
            return replace(row, verdict=draft.verdict, reason=draft.reason)
        found = await self._identifier.examine(draft, picture, profile)
        if found.verdict is Verdict.DISPARITY:
            row = await self._gaps.measure(row, draft, picture, profile)
        return replace(
            row,
            verdict=found.verdict,
            reason=found.reason,
            student_answer=found.student_answer,
            student_version=found.student_version,
            student_logprob=rounded(found.student_logprob),
            votes=found.votes,
            vote_share=found.vote_share,
            prompt_tokens=row.prompt_tokens + found.prompt_tokens,
            completion_tokens=row.completion_tokens + found.completion_tokens,
            saved_tokens=found.saved_tokens,
        )

    def _unreadable(self, entry: ManifestEntry, sha256: str | None, reason: str) -> list[Row]:
        base = replace(self._base(entry, sha256), verdict=Verdict.UNREADABLE_IMAGE, reason=reason)
        slots = {task: range(self._plan.asking(entry.index, sha256, task).questions) for task in entry.tasks}
        return [replace(base, task=task, slot=slot) for task in entry.tasks for slot in slots[task]]

    def _base(self, entry: ManifestEntry, sha256: str | None) -> Row:
        return Row(
            job_id=self._job_id,
            shard=self._shard,
            image_index=entry.index,
            slot=0,
            image=entry.image,
            image_sha256=sha256,
            task="",
            split=split_of(sha256 or entry.image, self._spec.seed, self._spec.gate.held_out_fraction),
            verdict=Verdict.UNPARSABLE,
            teacher_model=self._teacher.client.model,
            round=self._plan.number,
        )

    def _add(self, rows: list[Row]) -> None:
        self.rows += rows
        self.changed.set()

    def _check_not_all_refused(self) -> None:
        asked = [row for row in self.rows if row.verdict is not Verdict.UNREADABLE_IMAGE]
        refused = [row for row in asked if row.verdict is Verdict.REFUSED and row.question is None]
        if len({row.image_index for row in asked}) >= REFUSED_IMAGES and len(refused) == len(asked):
            raise UpstreamError(f"The teacher refused every image of the shard. The first refusal: {refused[0].reason}")
