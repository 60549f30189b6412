"""A job on what the traffic tap has sampled: from the tap's pile to collected pairs."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.parity.images.access import SourceRules
from services.parity.images.sources import list_images
from services.parity.images.traffic import pin_traffic
from services.parity.worker.__main__ import image_files
from services.parity.worker.shard import ShardWork
from services.trainer.data.dataset import read_held_out, read_training_set
from services.trainer.data.images import CheckedImages
from shared.client import ParityClient
from shared.contracts import JobSpec, ManifestEntry, TrafficSource, Verdict
from shared.errors import InvalidInput, UpstreamError
from shared.images import ImageLimits
from shared.images.traffic import HOUR_FORMAT
from shared.sets import read_set
from shared.settings import ParitySettings
from shared.state import JobStore
from shared.store import Store
from tests.services.parity.collecting import Spec, collect, submitter
from tests.services.parity.conftest import png


@pytest.fixture
def tmp_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store on disk, or in memory as a test's parameter says: an object store as far as the code can tell."""
    if getattr(request, "param", "file") == "memory":
        return f"memory://{uuid.uuid4().hex}"
    return (tmp_path / "store").as_uri()


def tap(store: Store, *numbers: int, hours_ago: int = 0, student: str = "student") -> list[str]:
    """Sampled images with their questions, laid out as the student's tap does."""
    hour = (datetime.now(UTC) - timedelta(hours=hours_ago)).strftime(HOUR_FORMAT)
    keys = [f"traffic/{student}/{hour}/{number:064x}.png" for number in numbers]
    for number, key in zip(numbers, keys, strict=True):
        store.write(key, png(number))
        store.write(key.replace(".png", "-abc.json"), b'{"question": "never read by a job"}')
    return keys


async def test_a_job_collects_the_sampled_images(
    settings: ParitySettings, store: Store, jobs: JobStore, work: ShardWork, spec: Spec
) -> None:
    keys = tap(store, *range(12))
    mine = submitter(settings, work)
    job_id, _ = await mine.submit(JobSpec.model_validate(spec(images={"kind": "traffic"})))
    await collect(work, job_id)
    rows = read_set(store, job_id).to_pylist()
    assert {row["image"] for row in rows} == {store.url_of(f"jobs/{job_id}/images/{Path(k).name}") for k in keys}
    verdicts = Counter(row["verdict"] for row in rows)
    assert verdicts[Verdict.DISPARITY] > 0 and verdicts[Verdict.UNREADABLE_IMAGE] == 0


@pytest.mark.parametrize("tmp_store_url", ["file", "memory"], indirect=True)
@pytest.mark.parametrize("when", ["before the collection", "before the training"])
async def test_a_job_survives_the_loss_of_the_whole_pile(
    settings: ParitySettings, store: Store, jobs: JobStore, work: ShardWork, spec: Spec, when: str
) -> None:
    """All that the tap's house-keeping may do: what was accepted is collected, and its images open for the trainer."""
    tap(store, *range(12))
    mine = submitter(settings, work)
    job_id, _ = await mine.submit(JobSpec.model_validate(spec(images={"kind": "traffic"})), "key")
    if when == "before the collection":
        store.delete("traffic")
    await collect(work, job_id)
    store.delete("traffic")
    samples = [*read_training_set(store, job_id).samples, *read_held_out(store, job_id)]
    with image_files(settings, store) as files:
        pictures = CheckedImages(files, ImageLimits.from_settings(settings))
        assert {pictures.open(sample.image, sample.image_sha256).size for sample in samples} == {(8, 8)}
    assert len({sample.image for sample in samples}) == 12
    assert (await mine.submit(JobSpec.model_validate(spec(images={"kind": "traffic"})), "key")) == (job_id, False)


async def test_images_that_go_while_a_job_is_submitted_are_left_out(store: Store) -> None:
    keys = tap(store, *range(4))
    entries = [ManifestEntry(index=n, image=store.url_of(key), tasks=["chart"]) for n, key in enumerate(keys)]
    elsewhere = ManifestEntry(index=4, image="/pile/a.png", tasks=["text"])
    again = ManifestEntry(index=5, image=store.url_of(keys[3]), tasks=["text"])
    store.delete(keys[0])
    pinned = pin_traffic(store, "job", [*entries, elsewhere, again])
    assert [entry.index for entry in pinned] == [0, 1, 2, 3]
    assert [Path(entry.image).name for entry in pinned] == [Path(key).name for key in keys[1:]] + ["a.png"]
    assert [entry.tasks for entry in pinned] == [["chart"], ["chart"], ["chart", "text"], ["text"]]
    assert sorted(store.list("jobs")) == [f"jobs/job/images/{Path(key).name}" for key in keys[1:]]
    store.delete("traffic")
    with pytest.raises(InvalidInput, match="deleted while the job was submitted"):
        pin_traffic(store, "job", entries)


async def test_the_traffic_is_that_of_the_jobs_student_unless_another_is_named(store: Store) -> None:
    (own,) = tap(store, 1, student="reader")
    (others,) = tap(store, 2)
    rules = SourceRules([], False, 10)
    for source, key in ((TrafficSource(), own), (TrafficSource(student="student"), others)):
        (entry,) = list_images([source], ["chart"], store, rules, "reader")
        assert entry.image == store.url_of(key)


async def test_a_job_may_leave_old_hours_out(store: Store) -> None:
    tap(store, 1, hours_ago=5)
    (young,) = tap(store, 2, hours_ago=1)
    source = TrafficSource(since=datetime.now(UTC) - timedelta(hours=3), tasks=["text"])
    entries = list_images([source], ["chart"], store, SourceRules([], False, 10), "student")
    assert [(entry.image, entry.tasks) for entry in entries] == [(store.url_of(young), ["text"])]
    with pytest.raises(InvalidInput, match="more than 1 images"):
        list_images([TrafficSource()], ["chart"], store, SourceRules([], False, 1), "student")


async def test_an_empty_pile_says_how_to_fill_it(api: ParityClient, spec: Spec) -> None:
    with pytest.raises(UpstreamError, match="MPA_STUDENT_TAP_SHARE"):
        await api.submit(spec(images={"kind": "traffic"}))


@pytest.mark.parametrize("wrong", [{"student": "../jobs"}, {"since": "2026-01-01T00:00:00"}, {"sicne": "x"}])
async def test_wrong_fields_are_refused(api: ParityClient, spec: Spec, wrong: dict[str, str]) -> None:
    with pytest.raises(UpstreamError, match=next(iter(wrong))):
        await api.submit(spec(images={"kind": "traffic", **wrong}))
