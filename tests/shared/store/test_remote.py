"""The artifact store on a real S3 server: publish, first writer wins, parts, downloads and outages."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.trainer.worker.workspace import Start, Workspace
from shared.checkpoints import CheckpointRegistry, build_card
from shared.contracts import Split, Verdict
from shared.errors import NotFound, Unavailable
from shared.images.files import ImageFiles
from shared.sets import Row
from shared.store import Store
from shared.store import remote as remote_store
from tests.polling import wait_until
from tests.shared.object_store import ENVIRONMENT, ObjectServer, make_bucket, object_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with object_server(tmp_path_factory.mktemp("moto")) as running:
        yield running


@pytest.fixture(autouse=True)
def credentials(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": server.url}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote_store, "HTTP_ATTEMPTS", 1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"{make_bucket()}/mpa", cache_dir=tmp_path / "cache")


def row(job: str, shard: int) -> Row:
    return Row(job, shard, shard, 0, f"/i/{shard}.png", "0" * 64, "chart", Split.TRAIN, Verdict.DISPARITY, question="q")


def test_what_is_written_is_read_listed_copied_and_deleted(store: Store) -> None:
    store.write("jobs/a/spec.json", b"one")
    store.write("jobs/a/spec.json", b"two")
    store.write("jobs/ab/spec.json", b"x")
    store.copy("jobs/a/spec.json", "jobs/c/spec.json")
    assert store.read("jobs/c/spec.json") == b"two"
    assert store.list("jobs") == ["jobs/a/spec.json", "jobs/ab/spec.json", "jobs/c/spec.json"]
    assert store.list_dirs("jobs") == ["a", "ab", "c"]
    assert store.size("jobs/a") == 3
    store.delete("jobs/a")
    store.delete("jobs/never")
    assert store.list("jobs") == ["jobs/ab/spec.json", "jobs/c/spec.json"]
    assert not store.exists("jobs/a/spec.json")
    with pytest.raises(NotFound, match="jobs/a"):
        store.read("jobs/a/spec.json")


def test_of_a_long_object_the_beginning_is_read(store: Store) -> None:
    store.write("a/b", b"0123456789")
    store.write("a/none", b"")
    assert [store.read("a/b", at_most=n) for n in (4, 10, 99)] == [b"0123", b"0123456789", b"0123456789"]
    assert store.read("a/none", at_most=4) == b""
    with pytest.raises(NotFound, match="a/c"):
        store.read("a/c", at_most=4)


def test_the_first_creator_wins(store: Store) -> None:
    """One after another: moto looks and writes in two steps, so creators at the same moment may all win there."""
    assert [Store(store.url).create("claim", b"%d" % n) for n in range(4)] == [True, False, False, False]
    assert store.read("claim") == b"0"


def test_another_process_is_seen_at_once(store: Store) -> None:
    other = Store(store.url)
    assert store.list("jobs") == store.list_dirs("") == []
    assert not store.exists("jobs/a")
    for written in (["jobs/a"], ["jobs/a", "jobs/b"]):
        other.write(written[-1], b"1")
        assert store.exists(written[-1])
        assert store.list("jobs") == written
        assert store.list_dirs("") == ["jobs"]
        assert store.size("") == len(written)
    other.delete("jobs/a")
    assert not store.exists("jobs/a")
    assert store.list("jobs") == ["jobs/b"]


def test_files_above_the_part_size_go_up_in_parts(store: Store, tmp_path: Path) -> None:
    big = tmp_path / "big" / "model.safetensors"
    big.parent.mkdir()
    with big.open("wb") as file:
        file.truncate(101 * 2**20)
        file.seek(60 * 2**20)
        file.write(b"middle")
    store.publish_dir(big.parent, "big")
    etag = store._fs.info(f"{store._root}/big/model.safetensors")["ETag"]
    assert etag.strip('"').endswith("-3")  # how S3 marks what came in three parts
    assert (store.open_local("big") / "model.safetensors").read_bytes() == big.read_bytes()


def test_a_small_folder_is_served_while_a_large_one_downloads_slowly(store: Store, server: ObjectServer) -> None:
    store.write("large/model", b"0" * 2**20)
    store.write("small/config", b"1")
    server.hold("GET", "/large/model")
    with ThreadPoolExecutor() as pool:
        try:
            large = pool.submit(store.open_local, "large")
            wait_until(lambda: server.faults_left() == 0)  # the download has begun, and waits
            small = pool.submit(store.open_local, "small")
            assert (small.result(timeout=20) / "config").read_bytes() == b"1"
            assert not large.done()
        finally:
            server.release()
        assert (large.result(timeout=20) / "model").stat().st_size == 2**20


def test_two_threads_download_a_file_once(store: Store, server: ObjectServer) -> None:
    store.write("folder/model", b"0" * 2**20)
    server.hold("GET", "/folder/model")
    with ThreadPoolExecutor() as pool:
        try:
            first = pool.submit(store.open_local, "folder")
            wait_until(lambda: server.faults_left() == 0)
            server.spoil("GET", 500, path="/folder/model")  # a second download would meet this
            second = pool.submit(store.open_local, "folder")
            with pytest.raises(TimeoutError):
                second.result(timeout=0.5)
        finally:
            server.release()
        assert first.result(timeout=20) == second.result(timeout=20)
    assert server.faults_left() == 1
    server.spoil_nothing()


def test_a_missing_bucket_is_no_missing_object(tmp_path: Path) -> None:
    store = Store(f"s3://none-{uuid.uuid4().hex[:8]}/mpa")
    for call in (
        lambda: store.read("a"),
        lambda: store.exists("a"),
        lambda: store.list("a"),
        lambda: store.write("a", b""),
        lambda: store.create("a", b""),
        lambda: store.copy("a", "b"),
        lambda: store.size("a"),
        lambda: store.delete("a"),
        lambda: store.download("a", tmp_path / "a"),
    ):
        with pytest.raises(Unavailable, match=r"bucket of the artifact store .* does not exist"):
            call()


class Refuses(BaseHTTPRequestHandler):
    """Answers all requests as S3 does to credentials without rights."""

    protocol_version = "HTTP/1.1"  # a PUT waits for 100 Continue

    def do_GET(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - http.server calls by name
    do_PUT = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        return


def test_refused_access_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as strict:
        threading.Thread(target=strict.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{strict.server_port}")
        store = Store("s3://bucket/mpa")
        for call in (
            lambda: store.read("a"),
            lambda: store.exists("a"),
            lambda: store.write("a", b"1"),
            lambda: store.create("a", b"1"),
        ):
            with pytest.raises(Unavailable, match="refuses access"):
                call()
        strict.shutdown()


def test_a_server_that_goes_away_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_server(tmp_path) as own:
        monkeypatch.setenv("AWS_ENDPOINT_URL", own.url)
        store = Store(f"{make_bucket()}/mpa", cache_dir=tmp_path / "cache")
        store.write("jobs/a.png", b"1")
        own.stop()
        with pytest.raises(Unavailable, match="does not answer"):
            store.read("jobs/a.png")
        with pytest.raises(Unavailable):
            store.exists("jobs/a.png")
        with ImageFiles(store, roots=None, max_bytes=100, allow_urls=False) as files, pytest.raises(Unavailable):
            files.read(store.url_of("jobs/a.png"))
        own.start()
        store._fs.mkdir(store._root.split("/")[0])  # the server keeps nothing
        store.write("jobs/a.png", b"2")
        assert store.read("jobs/a.png") == b"2"


def test_versions_are_published_and_rolled_back(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "x"}))
    (folder / "tokenizer.json").write_text("{}")
    registry = CheckpointRegistry(store, "student")
    for version in ("v1", "v2"):
        card = build_card(folder, version=version, student="student", files=sorted(folder.iterdir()))
        registry.publish(folder, card)
        registry.set_active(version, "test")
    assert sorted(p.name for p in registry.local("v2").iterdir()) == ["config.json", "mpa_card.json", "tokenizer.json"]
    assert registry.rollback("test").version == "v1"
    assert CheckpointRegistry(Store(store.url), "student").active().version == "v1"


def test_a_half_published_folder_has_no_card(store: Store, server: ObjectServer, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "mpa_card.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    server.spoil("PUT", 500, "InternalError", path="tokenizer.json")
    with pytest.raises(Unavailable):
        store.publish_dir(folder, "checkpoints/s/v", last="mpa_card.json")
    assert store.list("checkpoints/s/v") == ["checkpoints/s/v/config.json"]


def test_a_training_goes_on_from_what_another_trainer_saved(store: Store, tmp_path: Path) -> None:
    first = Workspace(store, "j")
    first.begin("base", "digest")
    assert (first.folder() / "start.json").is_file()
    step = first.folder() / "steps" / "checkpoint-5"
    step.mkdir(parents=True)
    (step / "model.safetensors").write_bytes(b"w")
    (step / "complete").write_bytes(b"")
    first.mirror(first.folder())
    second = Workspace(Store(store.url, cache_dir=tmp_path / "other"), "j")
    assert second.begin("newer", "digest") == Start("base", "digest")
    assert (second.folder() / "steps/checkpoint-5/model.safetensors").read_bytes() == b"w"


def save(workspace: Workspace, number: int, weights: bytes) -> None:
    step = workspace.folder() / "steps" / f"checkpoint-{number}"
    step.mkdir(parents=True, exist_ok=True)
    (step / "model.safetensors").write_bytes(weights)
    (step / "complete").write_bytes(b"")
    workspace.mirror(workspace.folder())


def test_a_training_that_began_anew_elsewhere_is_not_resumed_from_an_older_copy(store: Store, tmp_path: Path) -> None:
    here, there = (Store(store.url, cache_dir=tmp_path / name) for name in ("here", "there"))
    older, newer = Workspace(here, "j"), Workspace(here, "j")
    older.begin("base", "digest 1")
    for number in (5, 10):
        save(older, number, b"old")
    assert (Workspace(there, "j").folder() / "steps/checkpoint-10/complete").is_file()

    newer.begin("base", "digest 2")
    save(newer, 5, b"new")
    assert Workspace(there, "j").begin("base", "digest 2") == Start("base", "digest 2")
    steps = Workspace(there, "j").folder() / "steps"
    assert [path.name for path in steps.iterdir()] == ["checkpoint-5"]
    assert (steps / "checkpoint-5/model.safetensors").read_bytes() == b"new"


def test_a_step_of_another_set_whose_deletion_was_cut_short_is_dropped(store: Store, tmp_path: Path) -> None:
    older = Workspace(store, "j")
    older.begin("base", "digest 1")
    save(older, 5, b"old")
    store.delete("training/j/start.json")
    Workspace(store, "j").begin("base", "digest 2")
    assert store.exists("training/j/steps/checkpoint-5/complete")
    other = Workspace(Store(store.url, cache_dir=tmp_path / "other"), "j").folder()
    assert not list(other.glob("steps/checkpoint-*"))


def test_entries_tell_size_and_time(store: Store) -> None:
    store.write("a/b", b"123")
    (entry,) = store.entries("a")
    assert (entry.key, entry.bytes) == ("a/b", 3)
    assert abs(entry.modified - datetime.now(UTC).timestamp()) < 60
