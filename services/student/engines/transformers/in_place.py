"""Swap a checkpoint without a second copy of the weights: they are overwritten between two batches.

Nothing is touched until the files have been read once and found to fit. If the new weights fail anyway (their
smoke answer is wrong, a disk breaks), the old ones are read back from their folder.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from services.student.engines.base import WeightsLost
from services.student.engines.transformers.loading import check_smoke
from services.student.engines.transformers.weights import check_fits, overwrite
from shared.contracts import SmokeAnswer
from shared.errors import BadCheckpoint
from shared.settings import StudentSettings
from shared.vlm.loading import LoadedModel, load_processor, processor_digest

log = logging.getLogger(__name__)
_CONFIG: Any = GenerationConfig  # untyped


@dataclass(frozen=True)
class Replacement:
    """A checkpoint that fits the model: everything except its weights, which are still in ``folder``."""

    folder: Path
    processor: Any
    smoke: SmokeAnswer | None
    exact: bool

    def overwrite(self, serving: LoadedModel) -> LoadedModel:
        """Overwrite ``serving``'s model with this one. No batch may run meanwhile.

        Raises BadCheckpoint if the old weights are back, WeightsLost if they are not.
        """
        digest = processor_digest(self.folder)
        replaced = replace(serving, processor=self.processor, processor_digest=digest, name=str(self.folder))
        try:
            _load(replaced)
            if self.smoke is not None:
                check_smoke(replaced, self.smoke, self.folder, exact=self.exact)
        except Exception as error:
            self._restore(serving, error)
            if isinstance(error, BadCheckpoint):
                raise
            raise BadCheckpoint(f"{self.folder} could not be loaded in place: {error}") from error
        return replaced

    def _restore(self, serving: LoadedModel, reason: Exception) -> None:
        try:
            _load(serving)
        except Exception as error:
            raise WeightsLost(
                f"{self.folder} could not be loaded in place ({reason}), and {serving.name} could not be read back "
                f"({error}): restart the service."
            ) from error
        log.warning("Read %s back: %s", serving.name, reason)


def prepare_in_place(
    settings: StudentSettings, serving: LoadedModel, folder: Path, smoke: SmokeAnswer | None
) -> Replacement:
    """Check ``folder`` against the model that serves, reading all weights in chunks. Raises BadCheckpoint."""
    check_fits(serving.model, Path(serving.name), folder)
    processor = load_processor(folder, trust_remote_code=settings.trust_remote_code)
    return Replacement(folder, processor, smoke, exact=settings.student_dtype == "float32")


def _load(loaded: LoadedModel) -> None:
    folder = Path(loaded.name)
    overwrite(loaded.model, folder)
    if (folder / "generation_config.json").exists():
        loaded.model.generation_config = _CONFIG.from_pretrained(str(folder))
