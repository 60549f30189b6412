"""`mpa gc` as people run it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from shared.store import Store


def test_it_shows_and_deletes_nothing_that_is_young(
    tmp_store_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPA_STORE", tmp_store_url)
    monkeypatch.setenv("MPA_REDIS_URL", redis_url)
    store = Store(tmp_store_url)
    store.write("traffic/s/20200101T00/x.png", b"1")
    result = CliRunner().invoke(app, ["gc", "--delete", "--older-than", "0s", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"deleted": True, "bytes": 0, "removals": []}
    assert store.exists("traffic/s/20200101T00/x.png")


def test_redis_away_is_exit_code_3_and_a_bad_age_2(
    tmp_store_url: str, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPA_STORE", tmp_store_url)
    monkeypatch.setenv("MPA_REDIS_URL", f"redis://127.0.0.1:{free_port}/0")
    away = CliRunner().invoke(app, ["gc"])
    assert away.exit_code == 3 and "MPA_REDIS_URL" in away.stderr
    for age in ("soon", "nand", "-1h"):
        refused = CliRunner().invoke(app, ["gc", f"--older-than={age}"])
        assert refused.exit_code == 2 and f"--older-than '{age}'" in refused.stderr
