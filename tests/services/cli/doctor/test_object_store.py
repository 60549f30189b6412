"""What `mpa doctor` says of a bucket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.cli.doctor.backing import store_findings
from shared.contracts import FindingState
from shared.errors import Unavailable
from shared.store import Store
from tests.shared.object_store import ENVIRONMENT, ObjectServer, make_bucket, object_server

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    with object_server(tmp_path_factory.mktemp("s3")) as running:
        for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": running.url}).items():
            monkeypatch.setenv(name, value)
        yield running


async def test_a_bucket_is_written_read_and_left_as_it_was(server: ObjectServer) -> None:
    store = Store(f"{make_bucket()}/mpa")
    (found,) = await store_findings(lambda: store)
    assert found.state is FindingState.OK, found
    assert store.list("") == []


async def test_a_bucket_that_is_not_there_is_said(server: ObjectServer) -> None:
    with pytest.raises(Unavailable, match=r"bucket of the artifact store .* does not exist"):
        await store_findings(lambda: Store("s3://no-such-bucket/mpa"))
