"""``failure.json``: why a training process gave up, in words that the job's status shows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from services.trainer.launch.failures import failure_of
from services.trainer.run_config import Failure, RunConfig, to_json
from shared.errors import MPAError
from shared.files import create_file

logger = logging.getLogger(__name__)


@contextmanager
def report_failure(config: RunConfig, phase: str) -> Iterator[None]:
    """Write the reason for any error of step ``phase`` to the run's folder, and raise the error again."""
    try:
        yield
    except Exception as error:
        failure = failure_of(error, phase)
        save_failure(config, failure)
        logger.error("%s", failure.detail, exc_info=not isinstance(error, MPAError))
        raise


def save_failure(config: RunConfig, failure: Failure) -> None:
    """Only the first of several processes to fail gives the reason: the others fail because it is gone."""
    create_file(config.folder / "failure.json", to_json(failure))
