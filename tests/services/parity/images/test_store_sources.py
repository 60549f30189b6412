"""A job whose images lie in the bucket of the artifact store: from the API to collected pairs and open pictures."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.parity.worker.__main__ import image_files
from services.parity.worker.shard import ShardWork
from services.trainer.data.dataset import read_held_out, read_training_set
from services.trainer.data.images import CheckedImages
from shared.client import ParityClient
from shared.contracts import Verdict
from shared.errors import UpstreamError
from shared.images import ImageLimits
from shared.sets import read_set
from shared.settings import ParitySettings
from shared.store import Store
from tests.services.parity.collecting import Spec, collect
from tests.services.parity.conftest import png
from tests.shared.object_store import ENVIRONMENT, ObjectServer, make_bucket, object_server

pytestmark = pytest.mark.slow
PILE = "piles/may"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with object_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def tmp_store_url(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": server.url}).items():
        monkeypatch.setenv(name, value)
    return f"{make_bucket()}/mpa"


@pytest.fixture
def filled(store: Store) -> Store:
    """Seven pictures in the bucket; the lists name an eighth, which is not there."""
    for number in range(7):
        store.write(f"{PILE}/{number}.png", png(number))
    return store


def listed(store: Store, kind: str) -> str:
    """The URL of a list of the eight, by relative paths."""
    rows = [{"image": f"../may/{number}.png", "task": "text" if number < 2 else "chart"} for number in range(8)]
    key = f"{PILE}/list.{kind}"
    if kind == "parquet":
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), buffer)
        store.write(key, buffer.getvalue())
    else:
        store.write(key, "\n".join(map(json.dumps, rows)).encode())
    return store.url_of(key)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
async def test_a_job_collects_what_a_list_in_the_store_names(
    settings: ParitySettings, filled: Store, api: ParityClient, work: ShardWork, spec: Spec, kind: str
) -> None:
    status = await api.submit(spec(images={"kind": "manifest", "path": listed(filled, kind)}))
    assert status.images.total == 8
    await collect(work, status.id)
    rows = read_set(filled, status.id).to_pylist()
    assert {row["image"] for row in rows} == {filled.url_of(f"{PILE}/{number}.png") for number in range(8)}
    assert {row["task"] for row in rows if row["image_index"] < 2} == {"text"}
    unreadable = {row["image"] for row in rows if row["verdict"] == Verdict.UNREADABLE_IMAGE}
    assert unreadable == {filled.url_of(f"{PILE}/7.png")}
    samples = [*read_training_set(filled, status.id).samples, *read_held_out(filled, status.id)]
    with image_files(settings, filled) as files:
        pictures = CheckedImages(files, ImageLimits.from_settings(settings))
        assert samples and {pictures.open(sample.image, sample.image_sha256).size for sample in samples} == {(8, 8)}


async def test_one_key_sent_many_times_at_once_is_one_job(
    settings: ParitySettings, filled: Store, api: ParityClient, spec: Spec
) -> None:
    wanted = spec(images={"kind": "folder", "path": filled.url_of(PILE)})
    async with ParityClient(api.base_url) as other:
        sent = [client.submit(wanted, idempotency_key="once") for client in (api, other) for _ in range(4)]
        accepted = {status.id for status in await asyncio.gather(*sent)}
    assert filled.list_dirs("jobs") == sorted(accepted)
    assert len(accepted) == 1


@pytest.mark.parametrize(
    ("images", "count"),
    [
        ({"kind": "folder", "path": "URL/piles"}, 7),
        ({"kind": "glob", "pattern": "URL/piles/*/[0-2].png"}, 3),
    ],
)
async def test_a_job_takes_a_prefix_or_a_pattern(
    filled: Store, api: ParityClient, spec: Spec, images: dict[str, Any], count: int
) -> None:
    source = {name: value.replace("URL", filled.url) for name, value in images.items()}
    assert (await api.submit(spec(images=source))).images.total == count


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("URL/piles/may/none.jsonl", "none.jsonl is not in the artifact store"),
        ("URL/piles/may/bad.jsonl", "Line 2 of .*bad.jsonl is not valid JSON"),
        ("URL/piles/may/out.jsonl", "Line 1 of .*out.jsonl names .* outside the artifact store"),
        ("URL/piles/may/bad.parquet", "bad.parquet is not a readable Parquet file"),
        ("s3://elsewhere/list.jsonl", "outside the artifact store"),
    ],
)
async def test_a_list_that_cannot_be_used_is_said_at_submission(
    filled: Store, api: ParityClient, spec: Spec, path: str, words: str
) -> None:
    filled.write(f"{PILE}/bad.jsonl", b'{"image": "0.png"}\n{oops\n')
    filled.write(f"{PILE}/out.jsonl", b'{"image": "../../../x.png"}')
    filled.write(f"{PILE}/bad.parquet", b"PAR1")
    with pytest.raises(UpstreamError, match=words):
        await api.submit(spec(images={"kind": "manifest", "path": path.replace("URL", filled.url)}))
    assert filled.list("jobs") == []
