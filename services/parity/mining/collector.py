"""Collects one shard: judges the pair in every slot of every image and task, and makes the rows of the set."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from services.parity.endpoints.endpoint import Endpoint
from services.parity.endpoints.evidence import Health, RetryPolicy
from services.parity.endpoints.limiter import Limiter
from services.parity.images.picture import Picture, digest, prepare, split_of
from services.parity.mining.again import Again
from services.parity.mining.annotator import Annotator
from services.parity.mining.discrepancies import GapMeter, rounded
from services.parity.mining.identifier import Identifier
from services.parity.mining.pairs import Answered, Draft, Judged
from services.parity.mining.question_plan import RoundPlan
from shared.client import ChatClient
from shared.concurrency import run_all
from shared.contracts import JobSpec, ManifestEntry, Verdict
from shared.images import ImageLimits, UnreadableImage
from shared.images.files import ImageFiles
from shared.sets import Row
from shared.store.waiting import when_stored
from shared.telemetry.tracing import span, unrecorded
from shared.vqa.tasks import TaskProfile


@dataclass(frozen=True)
class Models:
    """How to reach the two models. ``calls_in_flight`` limits the calls to each of them.

    The shards of a worker process share its limiters and what is known of each server's health. None: a shard has its
    own. ``reasoning_tokens``: what the teacher may think in, on top of a task's limits; ``student_reasoning_tokens``:
    what the student may.
    """

    teacher: ChatClient
    student: ChatClient
    calls_in_flight: int
    patience: RetryPolicy | None = None
    teacher_calls: Limiter | None = None
    student_calls: Limiter | None = None
    teacher_health: Health | None = None
    student_health: Health | None = None
    reasoning_tokens: int = 0
    student_reasoning_tokens: int = 0


class ShardCollector:
    """One shard in progress. ``rows`` grows as images are judged. ``changed`` is set when there is news to report."""

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
        again: Again | None = None,
        trace_every: int = 1,
        changed: asyncio.Event | None = None,
    ) -> None:
        self.rows: list[Row] = []
        self.changed = changed or asyncio.Event()
        teacher_calls = models.teacher_calls or Limiter("teacher", models.calls_in_flight)
        student_calls = models.student_calls or Limiter("student", models.calls_in_flight)
        self._teacher = Endpoint(
            "teacher",
            models.teacher,
            teacher_calls,
            self.changed,
            models.patience,
            models.reasoning_tokens,
            models.teacher_health,
        )
        self._student = Endpoint(
            "student",
            models.student,
            student_calls,
            self.changed,
            models.patience,
            models.student_reasoning_tokens,
            models.student_health,
        )
        self._plan = plan or RoundPlan(spec)
        self._annotator = Annotator(self._teacher, spec.annotator, self._plan.seed, spec.discrepancies.top_k)
        self._identifier = Identifier(self._teacher, self._student, spec.identifier, self._plan.seed)
        self._gaps = GapMeter(self._teacher, self._student, spec.discrepancies)
        self._job_id, self._shard, self._spec, self._again = job_id, shard, spec, again
        self._entries = entries if again is None else again.only(entries)
        self._profiles, self._files, self._limits = profiles, files, limits
        self._trace_every = trace_every
        self._images_in_work = models.calls_in_flight
        self._storage: str | None = None

    @property
    def waiting_for(self) -> str | None:
        return self._teacher.waiting_for or self._student.waiting_for or self._storage

    def _wait_for(self, storage: str | None) -> None:
        if storage != self._storage:
            self._storage = storage
            self.changed.set()

    async def run(self) -> list[Row]:
        """All rows of the shard, or those that are made again. Waits as long as a model server has an outage."""
        places = asyncio.Semaphore(self._images_in_work)
        await run_all(*(self._image(entry, places) for entry in self._entries))
        return self.rows

    async def _image(self, entry: ManifestEntry, places: asyncio.Semaphore) -> None:
        traced = self._trace_every > 0 and entry.index % self._trace_every == 0
        async with places:
            with span("image", {"mpa.image": entry.index}) if traced else unrecorded():
                await self._judge_image(entry)

    async def _judge_image(self, entry: ManifestEntry) -> None:
        try:
            data = await when_stored(partial(self._files.read, entry.image), self._wait_for)
        except UnreadableImage as error:
            self._add(self._unreadable(entry, None, error.detail))
            return
        try:
            picture = await asyncio.to_thread(prepare, data, self._limits)
        except UnreadableImage as error:
            self._add(self._unreadable(entry, digest(data), error.detail))
            return
        first, *others = (self._profiles[name] for name in entry.tasks)
        # The first call about an image is made alone, so that all others find the image in the teacher's prefix cache.
        drafts = await self._propose(entry, picture, first)
        tasks = await run_all(
            self._judge_all(entry, drafts, picture, first),
            *(self._judge_task(entry, picture, profile) for profile in others),
        )
        self._add([row for rows in tasks for row in rows])

    async def _judge_task(self, entry: ManifestEntry, picture: Picture, profile: TaskProfile) -> list[Row]:
        return await self._judge_all(entry, await self._propose(entry, picture, profile), picture, profile)

    async def _propose(self, entry: ManifestEntry, picture: Picture, profile: TaskProfile) -> list[Draft | Judged]:
        place, two_step = (entry.index, profile.name), self._spec.annotator.mode == "two_step"
        known = self._again.drafts(place) if self._again is not None and two_step else None
        if known is not None:
            return known
        plan = self._plan.for_image(entry.index, picture.sha256, profile.name)
        if self._again is not None:
            plan = self._again.plan(place, plan)
        return await self._annotator.propose(picture, profile, plan)

    async def _judge_all(
        self, entry: ManifestEntry, drafts: list[Draft | Judged], picture: Picture, profile: TaskProfile
    ) -> list[Row]:
        pairs = await run_all(*(self._judge(draft, picture, profile) for draft in drafts))
        return [self._row(entry, picture.sha256, profile.name, pair, picture.note) for pair in pairs]

    async def _judge(self, draft: Draft | Judged, picture: Picture, profile: TaskProfile) -> Judged:
        with span("pair", {"mpa.task": profile.name, "mpa.slot": draft.slot}) as traced:
            pair: Draft | Answered | Judged = draft
            if isinstance(pair, Draft):
                pair = await self._annotator.answer(pair, picture, profile)
            if isinstance(pair, Answered):
                pair = await self._judge_answered(pair, picture, profile)
            traced.set_attribute("mpa.verdict", str(pair.verdict))
            return pair

    async def _judge_answered(self, pair: Answered, picture: Picture, profile: TaskProfile) -> Judged:
        judged = await self._identifier.judge(pair, picture, profile)
        if judged.verdict is not Verdict.DISPARITY:
            return judged
        return replace(judged, measures=await self._gaps.measure(pair, picture, profile))

    def _unreadable(self, entry: ManifestEntry, sha256: str | None, reason: str) -> list[Row]:
        slots: dict[str, Iterable[int]] = {
            task: range(self._plan.for_image(entry.index, sha256, task).questions) for task in entry.tasks
        }
        if self._again is not None:
            slots = {task: self._again.slots[entry.index, task] for task in entry.tasks}
        return [
            self._row(entry, sha256, task, Judged(slot, Verdict.UNREADABLE_IMAGE, reason))
            for task in entry.tasks
            for slot in slots[task]
        ]

    def _row(self, entry: ManifestEntry, sha256: str | None, task: str, pair: Judged, note: str = "") -> Row:
        student, measures = pair.student, pair.measures
        spent = pair.spent + measures.spent
        return Row(
            job_id=self._job_id,
            shard=self._shard,
            image_index=entry.index,
            slot=pair.slot,
            image=entry.image,
            image_sha256=sha256,
            task=task,
            split=split_of(sha256 or entry.image, self._spec.seed, self._spec.gate.held_out_fraction),
            verdict=pair.verdict,
            reason=pair.reason,
            question=pair.question,
            teacher_answer=pair.answer,
            student_answer=student.text if student else None,
            student_version=student.version if student else None,
            votes=pair.votes,
            vote_share=pair.vote_share,
            teacher_logprob=rounded(pair.logprob),
            student_logprob=rounded(student.logprob) if student else None,
            gap_logprob=measures.student_logprob,
            teacher_top=measures.top,
            rationale=measures.rationale,
            teacher_rationale_logprob=measures.teacher_rationale_logprob,
            student_rationale_logprob=measures.student_rationale_logprob,
            confidence_gap=measures.confidence_gap,
            reasoning_gap=measures.reasoning_gap,
            attention_gap=measures.attention_gap,
            teacher_attention=measures.teacher_attention,
            student_attention=measures.student_attention,
            teacher_model=self._teacher.client.model,
            prompt_tokens=spent.prompt,
            completion_tokens=spent.completion,
            saved_tokens=pair.saved_tokens,
            round=self._plan.number,
            image_note=note or None,
            cause=pair.cause,
        )

    def _add(self, rows: list[Row]) -> None:
        self.rows += rows
        self.changed.set()
