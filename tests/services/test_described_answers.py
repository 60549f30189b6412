"""What the services answer is what their OpenAPI documents say, whatever they are sent.

schemathesis sends what the documents allow, and what they do not. The job, the upload and, for the trainer, the
checkpoint that the documents' examples name exist. The student has no second checkpoint: swaps would take minutes.
"""

from __future__ import annotations

import asyncio
import base64
import io
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.parity.images.uploads import UploadLimits, store_upload, upload_prefix
from services.parity.jobs.submission import spec_key
from shared.checkpoints import CheckpointRegistry
from shared.contracts import EXAMPLE_IMAGE, JobSpec, JobState, Outcome, StoredSpec
from shared.http.examples import EXAMPLES
from shared.state import JobStore
from shared.store import Store
from tests.described_services import KEY, NAMES, served
from tests.services.student.small_replica import publish
from tests.services.trainer.small_set import make_set
from tests.tiny_models import build_tiny_idefics3

CHECKS = (
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
EXAMPLES_OF_AN_OPERATION = 3
"""How many are drawn at random, besides those that cover every value of the document: some 100 for each operation."""


@pytest.mark.slow
@pytest.mark.timeout(600)  # under a minute on an idle machine
@pytest.mark.parametrize("name", NAMES)
def test_no_answer_differs_from_the_document(name: str, tmp_path: Path, redis_url: str) -> None:
    prepare(name, Store((tmp_path / "store").as_uri(), tmp_path / "cache"), tmp_path, redis_url)
    with served(name, tmp_path, redis_url) as url:
        if name == "parity":  # the streams of new jobs, which nobody works on, would never end: submit them last
            check(url, tmp_path, "--exclude-operation-id=submit_job")
            check(url, tmp_path, "--include-operation-id=submit_job")
        else:
            check(url, tmp_path)


def check(url: str, folder: Path, *options: str) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--continue-on-failure"]
    command += [f"--checks={','.join(CHECKS)}", "--phases=examples,coverage,fuzzing", "--seed=7", "--no-color"]
    command += [f"--max-examples={EXAMPLES_OF_AN_OPERATION}", "--generation-database=none", "--warnings=off"]
    command += [f"--header=Authorization: Bearer {KEY}", "--request-timeout=30", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=270, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def prepare(name: str, store: Store, folder: Path, redis_url: str) -> None:
    """What the examples in the document of a service name."""
    if name == "parity":
        picture = io.BytesIO(base64.b64decode(EXAMPLE_IMAGE))
        receipt = store_upload([("bars.png", picture)], store, UploadLimits(1 << 20, 1 << 20, 10))
        given, named = (store.local_path(upload_prefix(key)) for key in (receipt.upload_id, EXAMPLES["upload_id"]))
        assert given is not None and named is not None
        given.rename(named)
        make_set(store, EXAMPLES["job_id"], folder / "pictures")
    if name in ("parity", "trainer"):
        asyncio.run(finish_a_job(store, redis_url))
    if name == "trainer":
        registry = CheckpointRegistry(store, "student")
        registry.register_base(build_tiny_idefics3(folder / "base", seed=0))
        publish(registry, build_tiny_idefics3(folder / "trained", seed=1), EXAMPLES["version"])


async def finish_a_job(store: Store, redis_url: str) -> None:
    spec = JobSpec.model_validate({"images": {"kind": "folder", "path": "/data/signs"}, "tasks": ["textvqa"]})
    stored = StoredSpec(job_id=EXAMPLES["job_id"], created_at=datetime.now(UTC), spec=spec, images=20, shards=1)
    store.write(spec_key(stored.job_id), stored.model_dump_json().encode())
    jobs = JobStore.from_url(redis_url)
    await jobs.create(stored)
    await jobs.transition(stored.job_id, JobState.QUEUED, JobState.COLLECTING)
    await jobs.finish(stored.job_id, JobState.COLLECTING, Outcome.NO_GAP, "the student answered as the teacher did")
    await jobs.aclose()
