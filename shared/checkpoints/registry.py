"""The checkpoint registry: immutable versions with lineage cards, and which of them is active.

Below ``checkpoints/<student>/`` each version is a folder. Its card is written last, so a version without a valid card
does not exist.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

from shared.checkpoints.adapters import ADAPTER_CONFIG
from shared.checkpoints.cards import build_card
from shared.checkpoints.code import code_files
from shared.checkpoints.files import CARD_NAME, checkpoint_files, parse_card, verify_loadable
from shared.checkpoints.promotions import Promotions
from shared.checkpoints.quantisation import CONFIG, configured, packed, read_dtypes
from shared.checkpoints.weights import INDEX, index_file, weight_files
from shared.contracts import ActivePointer, CheckpointCard, CheckpointInfo, CheckpointList
from shared.errors import BadCheckpoint, Conflict, NotFound
from shared.store import Store

BASE_VERSION = "base"
SMOKE_TOKENS = 16
"""Length limit of the answers that cards record and servers repeat."""
_BASE_SUFFIXES = frozenset({".json", ".jsonl", ".txt", ".model", ".tiktoken", ".spm", ".bpe", ".jinja", ".md"})
_BASE_FOLDERS = frozenset({"additional_chat_templates"})

logger = logging.getLogger(__name__)


class CheckpointRegistry:
    """Checkpoints of one student in an artifact store. Synchronous: call it through ``asyncio.to_thread`` in async
    code.
    """

    def __init__(self, store: Store, student: str) -> None:
        self.student = student
        self._store = store
        self._root = f"checkpoints/{student}"
        self._promotions = Promotions(store, student)

    def register_base(self, folder: Path) -> str:
        """Publish the student that the service was configured with; returns its version.

        The version is ``base``, or ``base-<digest>`` if another model already has that name, because the configured one
        was changed. It becomes active only if nothing is active yet.
        """
        files = _base_files(folder)
        verify_loadable(folder, ignore_pickles=True)
        card = build_card(folder, version=BASE_VERSION, student=self.student, files=files)
        if self._has_card(BASE_VERSION) and self.card(BASE_VERSION).digest != card.digest:
            card = card.model_copy(update={"version": f"{BASE_VERSION}-{card.digest[:12]}"})
            logger.warning(
                "the configured student differs from version base: registered as %s",
                card.version,
            )
        self.publish(folder, card)
        try:
            self.active()
        except NotFound:
            self.set_active(card.version, "base model")
        return card.version

    def publish(self, folder: Path, card: CheckpointCard) -> str:
        """Copy the card's files of ``folder``, then the card, which makes the version exist; returns its URL.

        Publishing the same content again changes nothing; other content under an existing version raises Conflict.
        """
        if card.student != self.student:
            raise BadCheckpoint(f"The card is for student {card.student!r}, this registry for {self.student!r}.")
        prefix = self._prefix(card.version)
        if self._has_card(card.version):
            if self.card(card.version).digest == card.digest:
                return self.url(card.version)
            raise Conflict(
                f"Version {card.version} of {self.student} exists with other content; "
                "versions never change: use a new name."
            )
        with tempfile.TemporaryDirectory(prefix="mpa-publish-") as staging:
            _stage(folder, card, Path(staging))
            self._store.publish_dir(Path(staging), prefix, last=CARD_NAME)
        return self.url(card.version)

    def url(self, version: str) -> str:
        return self._store.url_of(self._prefix(version))

    def versions(self) -> list[str]:
        """Versions with a valid card, oldest first."""
        cards = [card for name in self._store.list_dirs(self._root) if (card := self._card_or_none(name))]
        return [card.version for card in sorted(cards, key=lambda c: (c.created_at, c.version))]

    def list(self) -> CheckpointList:
        """All versions with their lineage in short; ``active`` is empty while none was promoted yet."""
        latest = self._promotions.latest()
        pointer = latest.pointer if latest else None
        active = pointer.version if pointer else ""
        infos = [self._info(self.card(version), active) for version in self.versions()]
        return CheckpointList(
            student=self.student,
            active=active,
            previous=pointer.previous if pointer else None,
            checkpoints=infos,
        )

    def card(self, version: str) -> CheckpointCard:
        """The card of ``version``; raises NotFound if there is no such version, BadCheckpoint if its card is
        damaged.
        """
        try:
            data = self._store.read(f"{self._prefix(version)}/{CARD_NAME}")
        except NotFound as error:
            known = ", ".join(self.versions()) or "none yet"
            raise NotFound(f"Student {self.student} has no checkpoint {version!r} (there are: {known}).") from error
        card = parse_card(data, f"{self.student}/{version}")
        if card.version != version or card.student != self.student:
            raise BadCheckpoint(
                f"The folder of {self.student}/{version} holds the card of {card.student}/{card.version}: "
                "restore the right one."
            )
        return card

    def local(self, version: str) -> Path:
        """A local folder with the files of ``version``, for from_pretrained; raises NotFound."""
        self.card(version)
        return self._store.open_local(self._prefix(version))

    def quantisation(self, version: str) -> str | None:
        """How the weights of ``version`` are quantised; None if they are not. Of a remote store little is fetched."""
        names = [file.name for file in self.card(version).files]
        prefix = self._prefix(version)
        method = configured(self._store.read(f"{prefix}/{CONFIG}")) if CONFIG in names else None
        if method is not None:
            return method
        dtypes: dict[str, str] = {}
        for name in names:
            if name.endswith(".safetensors") and "/" not in name:
                with self._store.opened(f"{prefix}/{name}") as file:
                    dtypes |= read_dtypes(file)
        return packed(dtypes, names)

    def active(self) -> ActivePointer:
        """Which version should serve; raises NotFound if none was ever set."""
        return self._promotions.latest_or_raise().pointer

    def set_active(self, version: str, by: str) -> ActivePointer:
        """Point to ``version`` (which must exist); the version served so far becomes ``previous``. Idempotent."""
        self.card(version)
        while True:
            current = self._promotions.latest()
            if current is not None and current.pointer.version == version:
                return current.pointer
            claimed = self._promotions.claim(current, version, by, below=current)
            if claimed is not None:
                return claimed

    def rollback(self, by: str) -> ActivePointer:
        """Point to the version before the active one; repeated calls walk further back. Raises Conflict if
        there is no earlier one.
        """
        while True:
            current = self._promotions.latest_or_raise()
            target = self._promotions.read(current.below)
            if target is None:
                raise Conflict(
                    f"Student {self.student} has no version before {current.pointer.version} to roll back to."
                )
            self.card(target.pointer.version)
            below = self._promotions.read(target.below)
            claimed = self._promotions.claim(current, target.pointer.version, by, below)
            if claimed is not None:
                return claimed

    def _prefix(self, version: str) -> str:
        return f"{self._root}/{version}"

    def _has_card(self, version: str) -> bool:
        return self._store.exists(f"{self._prefix(version)}/{CARD_NAME}")

    def _card_or_none(self, version: str) -> CheckpointCard | None:
        try:
            return self.card(version) if self._has_card(version) else None
        except BadCheckpoint as error:
            logger.warning(
                "checkpoint %s is not listed: %s",
                version,
                error.detail,
                extra={"checkpoint": version},
            )
            return None

    def _info(self, card: CheckpointCard, active: str) -> CheckpointInfo:
        overall = card.evaluation.overall if card.evaluation else None
        return CheckpointInfo(
            version=card.version,
            url=self.url(card.version),
            digest=card.digest,
            active=card.version == active,
            base=card.base,
            job_id=card.job_id,
            created_at=card.created_at,
            agreement_before=overall.agreement_before if overall else None,
            agreement_after=overall.agreement_after if overall else None,
            prompts=card.prompts,
        )


def _base_files(folder: Path) -> list[Path]:
    """The files that are needed of a hub's model folder: the weights that transformers loads, small text files, and the
    model's own code if its configuration names any. Other formats and exports beside them stay behind.
    """
    if not folder.is_dir():
        raise BadCheckpoint(
            f"The student's model folder {folder} does not exist: set MPA_STUDENT_MODEL to a Hugging Face folder."
        )
    left_out = _misleading(folder)
    chosen = {*weight_files(folder), *code_files(folder)}
    for path in checkpoint_files(folder):
        parents = path.relative_to(folder).parts[:-1]
        if path.suffix.lower() in _BASE_SUFFIXES and (not parents or parents[0] in _BASE_FOLDERS):
            chosen.add(path)
    return sorted(chosen - left_out, key=lambda path: path.relative_to(folder).as_posix())


def _misleading(folder: Path) -> set[Path]:
    """Files by which a library would load other weights than `weight_files`: an index that is not used, an adapter."""
    found = {path for name in (INDEX, ADAPTER_CONFIG) if (path := folder / name).is_file()}
    if folder / ADAPTER_CONFIG in found:
        logger.warning(
            "%s has an adapter next to its weights. It is left out: merge it into the weights to serve it", folder
        )
    return found - {index_file(folder)}


def _stage(folder: Path, card: CheckpointCard, staging: Path) -> None:
    """Lay out exactly the card's files and the card in ``staging``, by link where the file system allows it."""
    for file in card.files:
        source, target = folder / file.name, staging / file.name
        if not source.is_file():
            raise BadCheckpoint(
                f"{source} is missing, though the card of {card.version} lists it: save the checkpoint again."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source.resolve(), target)
        except OSError:
            shutil.copyfile(source, target)
    (staging / CARD_NAME).write_text(card.model_dump_json(indent=2))
