"""Accepts a job: checks its spec, makes it durable in the artifact store and records it, all before the 202."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from services.parity.images.access import SourceRules, allowed
from services.parity.images.leaving_out import LeftOutCount
from services.parity.images.sources import list_images
from services.parity.images.traffic import pin_traffic
from services.parity.jobs.model_checks import check_trainable
from shared.compatibility import read_shown, read_stored, reading
from shared.contracts import PRESET_FIELDS, JobSpec, LossSpec, ManifestEntry, StoredSpec
from shared.errors import Conflict, InvalidInput, NotFound, StorageUnavailable
from shared.loss_spec import check_answers_apart, check_discrepancies, completed, needs_logprobs
from shared.state import JobStore, RedisRefuses
from shared.store import Store
from shared.telemetry.tracing import HEADER, trace_headers
from shared.vqa.tasks import TaskProfile

log = logging.getLogger(__name__)


def spec_key(job_id: str) -> str:
    return f"jobs/{job_id}/spec.json"


def manifest_key(job_id: str) -> str:
    return f"jobs/{job_id}/manifest.jsonl"


@dataclass(frozen=True)
class Submitter:
    """Accepts jobs. ``students``: the names that a spec may give."""

    jobs: JobStore
    store: Store
    profiles: Mapping[str, TaskProfile]
    students: Sequence[str]
    rules: SourceRules
    check_probes: Callable[[], Awaitable[None]]
    check_logprobs: Callable[[], Awaitable[None]]
    check_candidates: Callable[[JobSpec], Awaitable[None]]

    async def submit(self, spec: JobSpec, idempotency_key: str | None = None) -> tuple[str, bool]:
        """The job's id, and whether this call made it. Once this returns, the job survives the loss of Redis.

        The job measures what its loss needs, unless the spec says otherwise. Raises InvalidInput (also if a model
        cannot report what is to be measured, or the student has no room for the candidates of several rounds),
        Forbidden, and Conflict for an idempotency key that was used with another spec.
        """
        spec = completed(spec)
        check_discrepancies(spec.train.loss, spec.discrepancies)
        check_answers_apart(spec)
        if spec.discrepancies.attention:
            await self.check_probes()
        if needs_logprobs(spec.train.loss) or spec.identifier.min_confidence > 0:
            await self.check_logprobs()
        if spec.rounds.max > 1:
            await self.check_candidates(spec)
        await self.jobs.ping()  # a job that Redis cannot take now must not stay in the store
        stored = await asyncio.to_thread(self._make_durable, spec, idempotency_key)
        try:
            return stored.job_id, await self.jobs.create(stored, trace=trace_headers().get(HEADER))
        except RedisRefuses:
            if idempotency_key is None:
                await asyncio.to_thread(self._withdraw, stored.job_id)
            raise

    def _make_durable(self, spec: JobSpec, key: str | None) -> StoredSpec:
        self._check(spec)
        digest = _digest(spec)
        job_id = new_job_id() if key is None else self._reserve(key, digest)
        try:
            return self._store(spec, job_id, digest, key)
        except BaseException:
            if key is None:  # the next call with a key goes on with what this one has written
                self._withdraw(job_id)
            raise

    def _withdraw(self, job_id: str) -> None:
        """Remove what was written of a job that was not accepted, as far as the store allows it now."""
        try:
            self.store.delete(f"jobs/{job_id}")
        except StorageUnavailable as error:
            log.warning("The rest of a job that was not accepted stays until `mpa gc`: %s", error.detail)

    def _store(self, spec: JobSpec, job_id: str, digest: str, key: str | None) -> StoredSpec:
        known = read_spec(self.store, job_id)
        if known is not None:
            return known
        check_trainable(self.store, spec.student)
        left_out = LeftOutCount()
        entries = list_images(spec.images, spec.tasks, self.store, self.rules, spec.student, left_out)
        self._check_tasks(sorted({task for entry in entries for task in entry.tasks}))
        entries = pin_traffic(self.store, job_id, entries)
        if not self.store.create(manifest_key(job_id), _manifest(entries)):
            # Another call with this key wrote its manifest first, and may have died since: that manifest is the job's.
            entries = read_manifest(self.store, job_id)
        stored = StoredSpec(
            job_id=job_id,
            created_at=datetime.now(UTC),
            spec=spec,
            images=len(entries),
            shards=math.ceil(len(entries) / spec.shard_size),
            idempotency_key=key,
            idempotency_digest=digest,
            left_out=left_out.reasons(),
        )
        if self.store.create(spec_key(job_id), stored.model_dump_json(indent=1).encode()):
            return stored
        return read_spec(self.store, job_id) or stored

    def _reserve(self, key: str, digest: str) -> str:
        """The job id of an idempotency key. It is kept in the artifact store, so that it survives the loss of Redis."""
        name = f"idempotency/{hashlib.sha256(key.encode()).hexdigest()}.json"
        job_id = new_job_id()
        if self.store.create(name, json.dumps({"job_id": job_id, "digest": digest}).encode()):
            return job_id
        with reading(self.store.url_of(name)):
            known = json.loads(self.store.read(name))
            known_id, known_digest = str(known["job_id"]), known["digest"]
        if known_digest != digest:
            raise Conflict(
                f"The Idempotency-Key {key!r} was used for job {known_id} with another spec: send a new key."
            )
        return known_id

    def _check(self, spec: JobSpec) -> None:
        if spec.student not in self.students:
            raise InvalidInput(f"student: {spec.student!r} is unknown: the known ones are {', '.join(self.students)}.")
        self._check_tasks([*spec.tasks, *(task for source in spec.images for task in source.tasks or ())])
        if any(source.tasks == [] for source in spec.images):
            raise InvalidInput("images.tasks is empty, so it asks nothing: leave it out to use the spec's tasks.")
        if spec.discrepancies.reasoning:
            self._check_prompts(spec, "discrepancies.reasoning", "explain")
        if spec.identifier.cross_check:
            self._check_prompts(spec, "identifier.cross_check", "check")
        if spec.benchmark is not None and not allowed(Path(spec.benchmark), self.rules.roots).is_file():
            raise InvalidInput(f"benchmark: {spec.benchmark} is not a file: give a labelled JSONL file.")

    def _check_prompts(self, spec: JobSpec, field: str, prompt: str) -> None:
        """At least one task of the job must have this prompt. Pairs of other tasks do not use it."""
        asked = {*spec.tasks, *(task for source in spec.images for task in source.tasks or ())}
        if not any(getattr(self.profiles[task].prompts, prompt) for task in asked):
            raise InvalidInput(
                f"{field}: none of the tasks {', '.join(sorted(asked))} has the prompt it needs: add prompts.{prompt} "
                f"to one in the file of MPA_TASKS_FILE, or leave {field} out."
            )

    def _check_tasks(self, tasks: Sequence[str]) -> None:
        unknown = [task for task in dict.fromkeys(tasks) if task not in self.profiles]
        if unknown:
            names = ", ".join(map(repr, unknown))
            known = ", ".join(sorted(self.profiles))
            raise InvalidInput(f"tasks: {names} unknown: the known ones are {known} (MPA_TASKS_FILE adds your own).")


def _digest(spec: JobSpec) -> str:
    """Digest of the request. Loss fields with the preset's value count as not given, as in earlier releases."""
    loss = spec.train.loss
    preset = LossSpec(preset=loss.preset)
    unset = {name: None for name in PRESET_FIELDS if getattr(loss, name) == getattr(preset, name)}
    train = spec.train.model_copy(update={"loss": loss.model_copy(update=unset)})
    # As if fields did not exist that earlier releases did not have, unless they are given.
    new = {"gate": {"min_questions"}} if spec.gate.min_questions is None else None
    given = spec.model_copy(update={"train": train}).model_dump_json(warnings=False, exclude=new)
    return hashlib.sha256(given.encode()).hexdigest()


def new_job_id() -> str:
    """A new id that sorts by time and can be part of a checkpoint's version."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def read_spec(store: Store, job_id: str) -> StoredSpec | None:
    """None if the job was never accepted. Raises Damaged, NewerSchema."""
    try:
        data = store.read(spec_key(job_id))
    except NotFound:
        return None
    return read_stored(StoredSpec, data, store.url_of(spec_key(job_id)))


def read_manifest(store: Store, job_id: str) -> list[ManifestEntry]:
    """All entries in order. Raises NotFound."""
    return [parse_entry(line) for line in store.read(manifest_key(job_id)).splitlines()]


def parse_entry(line: bytes) -> ManifestEntry:
    """Raises Damaged."""
    with reading("A line of the job's manifest.jsonl"):
        return read_shown(ManifestEntry, line)


def _manifest(entries: Sequence[ManifestEntry]) -> bytes:
    return b"".join(entry.model_dump_json().encode() + b"\n" for entry in entries)
