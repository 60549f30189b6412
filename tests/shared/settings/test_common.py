"""Settings of all services: durations, sizes, the store, secrets."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from shared.settings import CommonSettings, ParitySettings, StudentSettings


def test_durations_and_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPA_LEASE", "12.5")
    monkeypatch.setenv("MPA_RECONCILE_EVERY", "PT2S")
    monkeypatch.setenv("MPA_MAX_BODY", "5MiB")
    settings = ParitySettings()
    assert settings.lease == timedelta(seconds=12.5)
    assert settings.reconcile_every == timedelta(seconds=2)
    assert int(settings.max_body) == 5 * 1024 * 1024


def test_the_store_defaults_to_the_data_folder(tmp_path: Path) -> None:
    assert CommonSettings(data_dir=tmp_path).store_url == (tmp_path / "store").as_uri()
    assert CommonSettings(store="s3://bucket/x").store_url == "s3://bucket/x"


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPA_API_KEY", "hunter2")
    assert "hunter2" not in repr(CommonSettings())


@pytest.mark.parametrize(
    ("url", "asks"),
    [
        ("redis://redis:6379/0", "redis://:p%2F%40%3A%20ass@redis:6379/0"),
        ("rediss://user@[::1]:6379/1?db=2", "rediss://user:p%2F%40%3A%20ass@[::1]:6379/1?db=2"),
        ("redis://:own@redis:6379/0", "redis://:own@redis:6379/0"),
        ("unix:///run/redis.sock", "unix://:p%2F%40%3A%20ass@/run/redis.sock"),
        ("redis+sentinel://a,b:1/m", "redis+sentinel://:p%2F%40%3A%20ass@a,b:1/m"),
        ("", ""),
    ],
)
def test_the_password_of_redis_comes_from_a_file_of_its_own(
    url: str, asks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mpa_redis_password").write_text("p/@: ass\n")
    monkeypatch.setenv("MPA_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("MPA_REDIS_URL", url)
    settings = StudentSettings()
    assert settings.redis_url == asks
    assert "p/@: ass" not in repr(settings) and "p%2F" not in repr(settings)


def test_a_password_alone_names_no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPA_REDIS_PASSWORD", "secret")
    assert CommonSettings().redis_url == "redis://:secret@127.0.0.1:6379/0"
    assert "redis_url" not in CommonSettings().model_fields_set
