"""What both steps of a training read: its images, its tasks, and checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.trainer.data.images import CheckedImages
from services.trainer.evaluation.answering import Asker
from services.trainer.run_config import RunConfig
from shared.images import ImageLimits
from shared.images.files import ImageFiles
from shared.settings import TrainerSettings
from shared.store import Store
from shared.vlm.loading import LoadedModel, load_model, pick_device
from shared.vqa.tasks import load_profiles


def open_store(config: RunConfig) -> Store:
    return Store(config.store_url, config.cache_dir)


@contextmanager
def open_asker(config: RunConfig, store: Store) -> Iterator[Asker]:
    """Asks the questions of the run's tasks about the images of its set."""
    reasoning_tokens = TrainerSettings().student_reasoning_tokens
    # The folders that may be read were checked when the job was collected; the set names no others.
    files = ImageFiles(
        store,
        roots=None,
        max_bytes=config.max_image_bytes,
        allow_urls=config.allow_image_urls,
        allow_private_urls=config.allow_private_image_urls,
        timeout=config.call_timeout,
    )
    limits = ImageLimits(config.max_image_bytes, config.max_image_pixels, config.min_image_side)
    with files:
        yield Asker(CheckedImages(files, limits), load_profiles(config.tasks_file), reasoning_tokens)


def load_checkpoint(config: RunConfig, folder: Path, device: str, dtype: str = "float32") -> LoadedModel:
    """The model in ``folder``; ``device`` may be ``auto``."""
    device = str(pick_device(device))
    return load_model(folder, dtype=dtype, device=device, trust_remote_code=config.trust_remote_code)
