"""Working folders on local and remote stores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from services.trainer.worker.workspace import Start, Workspace
from shared.store import Store


@pytest.fixture(params=["local", "remote"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store((tmp_path / "store").as_uri())
    return Store(f"memory://{tmp_path.name}-{id(request)}", tmp_path / "cache")


def save_step(folder: Path, step: int, *, whole: bool = True) -> None:
    target = folder / "steps" / f"checkpoint-{step}"
    target.mkdir(parents=True)
    (target / "model.safetensors").write_bytes(b"weights %d" % step)
    if whole:
        (target / "complete").touch()


def test_what_a_training_began_from_stays(any_store: Store) -> None:
    first = Workspace(any_store, "j1").begin("base", "digest-1")
    assert Workspace(any_store, "j1").begin("job-other", "digest-1") == first == Start("base", "digest-1")


def test_another_set_begins_anew(any_store: Store) -> None:
    workspace = Workspace(any_store, "j1")
    workspace.begin("base", "digest-1")
    save_step(workspace.folder(), 5)
    (workspace.folder() / "result.json").write_text("{}")
    assert workspace.begin("job-other", "digest-2") == Start("job-other", "digest-2")
    assert not (workspace.folder() / "result.json").exists()
    assert not list(workspace.folder().glob("steps/*"))


def test_saved_steps_of_a_remote_store_reach_another_machine(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}-shared"
    here, there = Store(url, tmp_path / "here"), Store(url, tmp_path / "there")
    workspace = Workspace(here, "j1")
    workspace.begin("base", "digest-1")
    folder = workspace.folder()
    save_step(folder, 5)
    save_step(folder, 10, whole=False)
    workspace.mirror(folder)
    workspace.mirror(folder)
    other = Workspace(there, "j1").folder()
    assert (other / "steps" / "checkpoint-5" / "model.safetensors").read_bytes() == b"weights 5"
    assert not (other / "steps" / "checkpoint-10").exists()


def test_a_step_that_the_trainer_deletes_while_it_is_mirrored_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"memory://{tmp_path.name}-rotated", tmp_path / "cache")
    workspace = Workspace(store, "j1")
    workspace.begin("base", "digest-1")
    folder = workspace.folder()
    save_step(folder, 5)
    save_step(folder, 10)
    write = store.write

    def slow_write(key: str, data: bytes) -> None:
        write(key, data)
        if "checkpoint-10/" in key:
            shutil.rmtree(folder / "steps/checkpoint-10")

    monkeypatch.setattr(store, "write", slow_write)
    workspace.mirror(folder)
    other = Workspace(Store(store.url, tmp_path / "there"), "j1").folder()
    assert [path.parent.name for path in other.glob("steps/*/complete")] == ["checkpoint-5"]
    save_step(folder, 15)
    workspace.mirror(folder)
    assert store.exists("training/j1/steps/checkpoint-15/complete")


def test_steps_are_discarded_and_the_rest_stays(any_store: Store) -> None:
    workspace = Workspace(any_store, "j1")
    workspace.begin("base", "digest-1")
    folder = workspace.folder()
    save_step(folder, 5)
    (folder / "progress.jsonl").write_text("")
    workspace.mirror(folder)
    workspace.discard_steps(folder)
    assert not (folder / "steps").exists()
    assert (folder / "progress.jsonl").exists()
    assert not [key for key in any_store.list("training/j1") if "/steps/" in key]


def test_a_trainer_that_lost_its_lease_tags_no_step_with_the_new_set(tmp_path: Path) -> None:
    store = Store("memory://lost-lease", tmp_path / "one")
    late = Workspace(store, "j1")
    late.begin("base", "digest-1")
    folder = late.folder()
    save_step(folder, 3)
    other = Workspace(Store("memory://lost-lease", tmp_path / "two"), "j1")
    other.begin("base", "digest-2")
    late.mirror(folder)
    about = json.loads(store.read("training/j1/steps/checkpoint-3/step.json"))
    assert about["set_digest"] == "digest-1"
    assert not list(other.folder().glob("steps/checkpoint-*/complete"))
