"""The working folder of a training: in place on a local store, otherwise a local copy whose saved steps are mirrored to
the store.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.errors import NotFound, Unavailable
from shared.store import Store

logger = logging.getLogger(__name__)

_START = "start.json"
_SAVED = "complete"
_STEP = "step.json"


@dataclass(frozen=True)
class Start:
    """What a training began from. Recorded first, so that a resumed training uses the same."""

    base_version: str
    set_digest: str


class Workspace:
    """``training/<job_id>/`` in the store, and ``rounds/<round>/`` in it from the second round on. Synchronous."""

    def __init__(self, store: Store, job_id: str, round_: int = 1) -> None:
        self._store = store
        self._prefix = prefix_of(job_id, round_)
        self._curves = f"jobs/{job_id}/tensorboard" + (f"/round-{round_}" if round_ > 1 else "")
        self._is_local = store.local_path(self._prefix) is not None
        self._mirrored: set[str] = set()
        self._set_digest: str | None = None

    def started_from(self) -> str | None:
        """The version that the recorded training began from."""
        recorded = self._recorded()
        return None if recorded is None else recorded.base_version

    def begin(self, base_version: str, set_digest: str) -> Start:
        """The recorded start, or this one if there is none yet. Discards what was made from another set."""
        self._set_digest = set_digest
        recorded = self._recorded()
        if recorded is not None and recorded.set_digest == set_digest:
            return recorded
        if recorded is not None:
            logger.warning("the set changed since the training began: training again from the start")
            shutil.rmtree(self.folder(), ignore_errors=True)
            self._store.delete(self._prefix)
        start = Start(base_version, set_digest)
        self._store.write(f"{self._prefix}/{_START}", json.dumps(asdict(start)).encode())
        return start

    def folder(self) -> Path:
        """The local folder, with what an earlier holder left in it."""
        if self._is_local:
            return self._store.open_local(self._prefix)
        self._forget_older_training()
        folder = self._store.open_local(self._prefix)
        self._drop_steps_of_other_sets(folder)
        return folder

    def mirror(self, folder: Path) -> None:
        """Copy newly saved steps and results of a remote store's working copy to the store."""
        if self._is_local:
            return
        for marker in sorted(folder.glob(f"steps/checkpoint-*/{_SAVED}")):
            name = marker.parent.relative_to(folder).as_posix()
            if name in self._mirrored:
                continue
            try:
                self._publish_step(marker.parent, name)
            except (OSError, Unavailable):
                if marker.exists():
                    raise
                continue  # the Trainer keeps only the newest steps, and has deleted this one
            self._mirrored.add(name)

    def _publish_step(self, step: Path, name: str) -> None:
        """``step.json`` goes first, the marker last: older releases fetch the files by the names in it."""
        files = sorted(path.relative_to(step).as_posix() for path in step.rglob("*") if path.is_file())
        # Not what is recorded now: a trainer that lost its lease may find the beginning of the next training there.
        about = {"set_digest": self._set_digest, "files": files}
        self._store.write(f"{self._prefix}/{name}/{_STEP}", json.dumps(about).encode())
        self._store.publish_dir(step, f"{self._prefix}/{name}", last=_SAVED)

    def publish_curves(self, folder: Path) -> None:
        """Copy TensorBoard's files, if there are any, to the place of the job's report."""
        if folder.is_dir():
            self._store.publish_dir(folder, self._curves)

    def discard_steps(self, folder: Path) -> None:
        """Delete the Trainer's own files, which are useless after the training. Logs and results stay."""
        shutil.rmtree(folder / "steps", ignore_errors=True)
        self._store.delete(f"{self._prefix}/steps")

    def _forget_older_training(self) -> None:
        """Delete the local copy if the set has changed since: other machines began again from the start."""
        copy = self._store.local_copy(self._prefix)
        began = copy / _START
        if began.is_file() and began.read_bytes() != self._store.read(f"{self._prefix}/{_START}"):
            shutil.rmtree(copy)

    def _drop_steps_of_other_sets(self, folder: Path) -> None:
        """Such steps are left in the store if the deletion of an older training was cut short."""
        started = self._recorded()
        for marker in sorted(folder.glob(f"steps/checkpoint-*/{_SAVED}")):
            name = marker.parent.relative_to(folder).as_posix()
            if not self._store.exists(f"{self._prefix}/{name}/{_SAVED}"):
                continue  # saved here, and not mirrored yet
            if started is None or self._about_step(name).get("set_digest") != started.set_digest:
                shutil.rmtree(marker.parent)
                continue
            (marker.parent / _STEP).unlink(missing_ok=True)  # the store's, not the Trainer's: never sent back

    def _about_step(self, name: str) -> dict[str, Any]:
        try:
            about: dict[str, Any] = json.loads(self._store.read(f"{self._prefix}/{name}/{_STEP}"))
        except NotFound:
            return {}
        return about

    def _recorded(self) -> Start | None:
        try:
            return Start(**json.loads(self._store.read(f"{self._prefix}/{_START}")))
        except (NotFound, ValueError, TypeError):
            return None


def prefix_of(job_id: str, round_: int) -> str:
    """Where a round's training works, in the store."""
    return f"training/{job_id}" + (f"/rounds/{round_}" if round_ > 1 else "")
