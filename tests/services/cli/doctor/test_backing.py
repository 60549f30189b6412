"""What `mpa doctor` finds about Redis, the artifact store and disks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from services.cli.doctor.backing import disk_findings, persistence, store_findings
from shared.contracts import FindingState
from shared.errors import Unavailable
from shared.settings import ClientSettings
from shared.store import Store
from tests.services.cli.doctor.conftest import System
from tests.services.cli.doctor.running_doctor import (
    BROKEN,
    OK,
    findings,
    one_finding,
)
from tests.shared.object_store import ENVIRONMENT, ObjectServer, make_bucket, object_server


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("option", "value", "before", "check"),
    [
        ("appendonly", "no", "yes", "redis' persistence"),
        ("maxmemory-policy", "allkeys-lru", "noeviction", "redis' eviction"),
    ],
)
def test_a_redis_that_forgets(system: System, option: str, value: str, before: str, check: str) -> None:
    with redis.Redis.from_url(system.redis.url) as client:
        client.config_set(option, value)
        try:
            found = findings("redis")
        finally:
            client.config_set(option, before)
    assert [name for name, finding in found.items() if finding.state is not OK] == [check]


@pytest.mark.usefixtures("environment")
def test_a_redis_that_is_away(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setenv("MPA_REDIS_URL", f"redis://127.0.0.1:{free_port}/0")
    found = findings("redis", "workers", "releases", "store")
    assert {name: finding.state for name, finding in found.items()} == {
        **dict.fromkeys(("redis", "workers", "releases"), BROKEN),
        "store": OK,
    }
    assert "MPA_REDIS_URL" in found["redis"].fix


@pytest.mark.usefixtures("environment")
def test_a_store_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MPA_STORE", (tmp_path / "file/store").as_uri())
    found = findings("store")["store"]
    assert found.state is BROKEN and "not a usable folder" in found.found and "MPA_STORE" in found.fix


@pytest.mark.usefixtures("environment")
def test_the_probe_leaves_nothing_behind(system: System) -> None:
    findings("store")
    assert Store(system.environment["MPA_STORE"]).list("doctor") == []


async def test_a_full_disk(tmp_path: Path) -> None:
    found = await disk_findings(ClientSettings(data_dir=tmp_path / "not/there/yet"), least=2**62)
    assert [finding.state for finding in found] == [BROKEN, BROKEN]
    assert "MPA_DATA_DIR" in found[0].fix and "MPA_STORE" in found[1].fix


@pytest.mark.parametrize(("status", "state"), [("ok", FindingState.OK), ("err", FindingState.BROKEN)])
def test_a_redis_that_cannot_write_its_file(status: str, state: FindingState) -> None:
    """With Redis' INFO as input: the test cannot fill the disk of Redis alone."""
    found = [persistence({"aof_enabled": 1, "aof_last_write_status": status})]
    one_finding(found, "redis' persistence", state)


class Overwrites(Store):
    """Has no conditional writes."""

    def create(self, key: str, data: bytes) -> bool:
        self.write(key, data)
        return True


class Corrupts(Store):
    def read(self, key: str) -> bytes:
        return super().read(key)[:-1]


class ListsNothing(Store):
    def list(self, prefix: str = "") -> list[str]:
        return []


class KeepsAll(Store):
    def delete(self, prefix: str) -> None:
        """Has no permission to delete."""


@pytest.mark.parametrize(
    ("kind", "words"),
    [(Overwrites, "overwrite"), (Corrupts, "other bytes"), (KeepsAll, "still has"), (ListsNothing, "does not list")],
)
async def test_a_store_that_is_none(tmp_path: Path, kind: type[Store], words: str) -> None:
    found = await store_findings(lambda: kind((tmp_path / "store").as_uri()))
    assert words in one_finding(found, "store", FindingState.BROKEN).found


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    with object_server(tmp_path_factory.mktemp("s3")) as running:
        for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": running.url}).items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.mark.slow
async def test_a_bucket_is_written_read_and_left_as_it_was(server: ObjectServer) -> None:
    store = Store(f"{make_bucket()}/mpa")
    (found,) = await store_findings(lambda: store)
    assert found.state is FindingState.OK, found
    assert store.list("") == []


@pytest.mark.slow
async def test_a_bucket_that_is_not_there_is_said(server: ObjectServer) -> None:
    with pytest.raises(Unavailable, match=r"bucket of the artifact store .* does not exist"):
        await store_findings(lambda: Store("s3://no-such-bucket/mpa"))
