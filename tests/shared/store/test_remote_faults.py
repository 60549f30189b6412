"""What the store makes of errors of an S3 server: those that pass are tried again, the others are said as what they
are, and nothing is left half-written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from shared.checkpoints import CheckpointRegistry, build_card
from shared.contracts import Split, Verdict
from shared.errors import Unavailable
from shared.sets import Row, read_set, write_shard
from shared.store import Store
from shared.store import remote as remote_store
from shared.store.remote import CALL_ATTEMPTS, CREATE_ATTEMPTS
from tests.shared.object_store import ENVIRONMENT, ObjectServer, make_bucket, object_server

pytestmark = pytest.mark.slow
ATTEMPTS = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with object_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def store(server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": server.url}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote_store, "HTTP_ATTEMPTS", ATTEMPTS)  # the pauses between more would be seconds
    yield Store(f"{make_bucket()}/mpa", cache_dir=tmp_path / "cache")
    server.spoil_nothing()


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (503, "ServiceUnavailable")])
def test_what_passes_is_tried_again(store: Store, server: ObjectServer, status: int, code: str) -> None:
    for method, call in (
        ("PUT", lambda: store.write("a", b"1")),
        ("GET", lambda: store.read("a")),
        ("HEAD", lambda: store.exists("a")),
        ("PUT", lambda: store.create(f"claims/{code}", b"1")),
    ):
        server.spoil(method, status, code)
        call()
        assert server.faults_left() == 0
    assert store.read("a") == store.read(f"claims/{code}") == b"1"


@pytest.mark.parametrize(
    ("status", "code", "attempts"),
    [(503, "SlowDown", ATTEMPTS * CALL_ATTEMPTS), (500, "InternalError", ATTEMPTS), (0, "", CALL_ATTEMPTS)],
)
def test_what_does_not_pass_is_an_outage_after_a_known_number_of_attempts(
    store: Store, server: ObjectServer, tmp_path: Path, status: int, code: str, attempts: int
) -> None:
    """Throttling, a server that fails, and answers that break off."""
    store.write("a", b"1234")
    for call in (lambda: store.read("a"), lambda: store.download("a", tmp_path / "a")):
        server.spoil("GET", status, code, times=100, path="/a")
        with pytest.raises(Unavailable, match="does not answer as it should"):
            call()
        assert 100 - server.faults_left() == attempts
    assert list(tmp_path.glob("*a*")) == []


def test_an_answer_that_breaks_off_is_asked_for_again(store: Store, server: ObjectServer, tmp_path: Path) -> None:
    store.write("a", b"12345678" * 2**17)
    for call in (lambda: store.read("a"), lambda: store.download("a", tmp_path / "a")):
        server.spoil("GET", 0, path="/a")
        call()
        assert server.faults_left() == 0
    assert (tmp_path / "a").read_bytes() == store.read("a") == b"12345678" * 2**17


def test_a_refusal_is_not_tried_again(store: Store, server: ObjectServer) -> None:
    server.spoil("PUT", 403, "AccessDenied", times=100)
    with pytest.raises(Unavailable, match="refuses access"):
        store.write("a", b"1")
    assert server.faults_left() == 99


def test_a_conflict_with_another_creation_is_asked_again(store: Store, server: ObjectServer) -> None:
    """S3's 409 says that nobody has won yet."""
    server.spoil("PUT", 409, "ConditionalRequestConflict", times=CREATE_ATTEMPTS - 1)
    assert store.create("claim", b"1")
    assert server.faults_left() == 0
    server.spoil("PUT", 409, "ConditionalRequestConflict", times=100)
    with pytest.raises(Unavailable, match="ConditionalRequestConflict"):
        store.create("other", b"1")
    assert not store.exists("other")


def test_a_creation_whose_answer_was_lost_is_told_as_somebody_elses(store: Store, server: ObjectServer) -> None:
    """What callers do then must be right in both cases: take what is there."""
    server.spoil("PUT", 500, "InternalError", done=True)
    assert not store.create("claim", b"mine")
    assert store.read("claim") == b"mine"


def test_a_shard_whose_answer_was_lost_is_there_and_summed_up(store: Store, server: ObjectServer) -> None:
    server.spoil("PUT", 500, "InternalError", done=True)
    row = Row("j", 0, 0, 0, "/i.png", "0" * 64, "chart", Split.TRAIN, Verdict.DISPARITY, question="q")
    assert write_shard(store, "j", 0, [row]).verdicts == {"disparity": 1}
    assert server.faults_left() == 0
    assert read_set(store, "j").num_rows == 1


def test_a_promotion_whose_answer_was_lost_happened_once(store: Store, server: ObjectServer, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "x"}))
    registry = CheckpointRegistry(store, "student")
    for version in ("v1", "v2"):
        registry.publish(folder, build_card(folder, version=version, student="student", files=[folder / "config.json"]))
        server.spoil("PUT", 500, "InternalError", done=True)
        assert registry.set_active(version, "test").version == version
        assert server.faults_left() == 0
    assert (registry.active().version, registry.active().previous, registry.active().generation) == ("v2", "v1", 1)


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A folder with one file that goes up in three parts."""
    folder = tmp_path / "big"
    folder.mkdir()
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(101 * 2**20)
    return folder


def test_a_part_that_fails_leaves_neither_a_file_nor_parts(store: Store, server: ObjectServer, big: Path) -> None:
    boto3.client("s3").create_multipart_upload(Bucket=store.url.split("/")[2], Key="mpa/other")
    server.spoil("PUT", 500, "InternalError", times=100)
    with pytest.raises(Unavailable, match="does not answer"):
        store.publish_dir(big, "big")
    assert server.faults_left() < 100
    server.spoil_nothing()
    assert store.list("big") == []
    assert unfinished_uploads(store) == 1  # the other


def test_a_part_that_fails_once_is_sent_again(store: Store, server: ObjectServer, big: Path) -> None:
    server.spoil("PUT", 503, "SlowDown")
    store.publish_dir(big, "big")
    assert server.faults_left() == 0
    assert store.size("big") == 101 * 2**20


def unfinished_uploads(store: Store) -> int:
    s3 = boto3.client("s3")
    return len(s3.list_multipart_uploads(Bucket=store.url.split("/")[2]).get("Uploads", []))
