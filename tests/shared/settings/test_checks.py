"""Values that could only fail later are refused at once."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.settings import SECRETS_DIR_VARIABLE, CommonSettings, ParitySettings, StudentSettings, read_settings
from shared.settings.checks import check_file, check_secrets_folder, check_setting


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("log_level", "LOUD", "'LOUD' is not a log level: use one of DEBUG"),
        ("redis_url", "localhost:6379", "write redis://host:port"),
        ("teacher_url", "teacher:8101", "write http://host:port"),
        ("teacher_url", "redis://x", "write http://host:port"),
        ("teacher_url", "", "write http://host:port"),
        ("student_port", 65536, "port 65536 does not exist"),
        ("store", "ftpx://bucket", "ftpx:// is unknown: use file://"),
        ("lease", timedelta(0), "longer than 0 s"),
        ("call_timeout", timedelta(0), "longer than 0 s"),
        ("student_max_wait", timedelta(seconds=-1), "cannot be negative"),
    ],
)
def test_what_is_refused_is_told_with_what_to_write(name: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        check_setting(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log_level", "debug"),
        ("redis_url", "rediss://user:key@host:6379/1"),
        ("redis_url", "unix:///run/redis.sock"),
        ("teacher_url", "https://models.example/openai/v1"),
        ("teacher_url", "http://[::1]:8101"),
        ("student_port", 0),
        ("store", "s3://bucket/x"),
        ("store", "memory://x"),
        ("store", "/a/folder"),
        ("store", ""),
        ("student_max_wait", timedelta(0)),
        ("shutdown_grace", timedelta(0)),
    ],
)
def test_taken(name: str, value: Any) -> None:
    check_setting(name, value)


def test_only_who_needs_redis_has_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPA_REDIS_URL", "")
    assert StudentSettings().redis_url == ""
    with pytest.raises(ValidationError, match="redis_url"):
        ParitySettings()


def test_a_folder_of_keys_that_is_not_there_stops_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    check_secrets_folder(str(tmp_path))
    check_file(__file__)
    monkeypatch.setenv(SECRETS_DIR_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(SystemExit) as ended:
        read_settings(CommonSettings)
    assert ended.value.code == 2 and SECRETS_DIR_VARIABLE in capsys.readouterr().err
