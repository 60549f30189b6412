"""A process knows its place among those of its training from torchrun's variables."""

from __future__ import annotations

from services.trainer.launch.ranks import ALONE, Ranks


def test_the_launchers_variables_are_read() -> None:
    found = Ranks.of({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"})
    assert found == Ranks(index=5, count=8, local=1, beside=4)
    assert not found.is_first


def test_without_a_launcher_the_process_is_alone_and_first() -> None:
    assert Ranks.of({"PATH": "/bin"}) == ALONE
    assert ALONE.is_first
