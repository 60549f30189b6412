"""Promotions and rollbacks: none is lost, whatever crashes or comes at the same time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.checkpoints import CheckpointRegistry
from shared.errors import Conflict
from shared.store import Store
from tests.shared.checkpoints.small_folder import model_folder, publish


def test_rollback_walks_back(registry: CheckpointRegistry, tmp_path: Path) -> None:
    registry.register_base(model_folder(tmp_path / "base"))
    publish(registry, tmp_path, "job-1", 1)
    publish(registry, tmp_path, "job-2", 2)
    registry.set_active("job-1", "me")
    registry.set_active("job-2", "me")
    assert registry.rollback("me").version == "job-1"
    assert registry.rollback("me").version == "base"
    with pytest.raises(Conflict, match="roll back"):
        registry.rollback("me")
    assert registry.active().generation == 4


def test_promoting_what_is_active_keeps_the_way_back(registry: CheckpointRegistry, tmp_path: Path) -> None:
    registry.register_base(model_folder(tmp_path / "base"))
    publish(registry, tmp_path, "job-1", 1)
    first = registry.set_active("job-1", "job 1")
    assert registry.set_active("job-1", "job 1 again") == first
    assert first.previous == "base"


def test_a_crash_before_the_copy_loses_no_promotion(registry: CheckpointRegistry, tmp_path: Path) -> None:
    registry.register_base(model_folder(tmp_path / "base"))
    publish(registry, tmp_path, "job-1", 1)
    pointer_file = tmp_path / "store" / "checkpoints" / "student" / "active.json"
    old = pointer_file.read_bytes()
    registry.set_active("job-1", "me")
    for content in (old, b"", b"{"):
        pointer_file.write_bytes(content)
        assert registry.active().version == "job-1"


def test_concurrent_promotions_are_all_kept_in_order(registry: CheckpointRegistry, tmp_path: Path) -> None:
    registry.register_base(model_folder(tmp_path / "base"))
    names = [f"job-{i}" for i in range(8)]
    for i, name in enumerate(names):
        publish(registry, tmp_path, name, i)
    threads = [threading.Thread(target=registry.set_active, args=(name, "me")) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.active().generation == 8
    seen = [registry.active().version]
    for _ in range(8):
        seen.append(registry.rollback("me").version)
    assert sorted(seen) == sorted([*names, "base"])


@given(moves=st.lists(st.sampled_from(["a", "b", "c", "back"]), max_size=12))
@settings(max_examples=12)
def test_the_pointer_behaves_like_a_stack(tmp_path_factory: pytest.TempPathFactory, moves: list[str]) -> None:
    root = tmp_path_factory.mktemp("stack")
    registry = CheckpointRegistry(Store((root / "store").as_uri()), "student")
    registry.register_base(model_folder(root / "base"))
    for i, name in enumerate("abc"):
        publish(registry, root, name, i)
    stack = ["base"]
    for move in moves:
        if move == "back" and len(stack) == 1:
            with pytest.raises(Conflict):
                registry.rollback("me")
        elif move == "back":
            stack.pop()
            registry.rollback("me")
        elif move != stack[-1]:
            stack.append(move)
            registry.set_active(move, "me")
        pointer = registry.active()
        assert pointer.version == stack[-1]
        assert pointer.previous == (stack[-2] if len(stack) > 1 else None)
