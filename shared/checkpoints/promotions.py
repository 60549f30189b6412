"""Which version of a student was active when: one file for each promotion or rollback.

A promotion is claimed as ``checkpoints/<student>/.promotions/<generation>.json`` with create-if-absent;
``active.json`` is a copy of the latest one for readers. Two promoters can therefore never overwrite each other, and a
crash between the two writes loses nothing.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from shared.compatibility import check_schema, read_shown
from shared.contracts import ActivePointer, Finite
from shared.errors import NotFound
from shared.store import Store

logger = logging.getLogger(__name__)


class Promotion(Finite):
    """One generation of the pointer; ``below`` is the generation that a rollback from here restores."""

    pointer: ActivePointer
    below: int | None


class Promotions:
    """The promotions of one student. Synchronous: call it through ``asyncio.to_thread`` in async code."""

    def __init__(self, store: Store, student: str) -> None:
        self._store, self._student = store, student
        self._root = f"checkpoints/{student}"

    def latest(self) -> Promotion | None:
        """The promotion that ``active.json`` names, or a later one whose copy was not written; None before the
        first.
        """
        try:
            pointer = read_shown(ActivePointer, self._store.read(f"{self._root}/active.json"))
            latest = self.read(pointer.generation)
        except (NotFound, ValueError):
            latest = None
        while (following := self.read(latest.pointer.generation + 1 if latest else 0)) is not None:
            latest = following
        return latest

    def latest_or_raise(self) -> Promotion:
        """As ``latest``; raises NotFound before the first."""
        latest = self.latest()
        if latest is None:
            raise NotFound(
                f"Student {self._student} has no active checkpoint yet: start the student service, or promote one."
            )
        return latest

    def read(self, generation: int | None) -> Promotion | None:
        """None if ``generation`` is None or does not exist; raises NewerSchema."""
        if generation is None:
            return None
        try:
            found = read_shown(Promotion, self._store.read(self._key(generation)))
        except NotFound:
            return None
        check_schema(found.pointer.schema_version, f"Promotion {generation} of {self._student}")
        return found

    def claim(self, current: Promotion | None, version: str, by: str, below: Promotion | None) -> ActivePointer | None:
        """Write the generation after ``current``; None if another promoter was faster."""
        pointer = ActivePointer(
            student=self._student,
            version=version,
            previous=below.pointer.version if below else None,
            promoted_by=by,
            promoted_at=datetime.now(UTC),
            generation=current.pointer.generation + 1 if current else 0,
        )
        promotion = Promotion(pointer=pointer, below=below.pointer.generation if below else None)
        if not self._store.create(self._key(pointer.generation), promotion.model_dump_json(indent=2).encode()):
            return None
        self._store.write(f"{self._root}/active.json", pointer.model_dump_json(indent=2).encode())
        logger.info("checkpoint %s of %s is active (by %s)", version, self._student, by, extra={"checkpoint": version})
        return pointer

    def _key(self, generation: int) -> str:
        return f"{self._root}/.promotions/{generation:08d}.json"
