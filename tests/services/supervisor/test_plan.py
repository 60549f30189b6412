"""Which processes run, where, and with what settings."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from services.supervisor.plan import Plan, make_plan
from shared.errors import Conflict

ALL_PORTS = ("MPA_TEACHER_PORT", "MPA_STUDENT_PORT", "MPA_PARITY_PORT", "MPA_TRAINER_PORT")


@pytest.fixture(autouse=True)
def own_folder_and_ports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MPA_DATA_DIR", str(tmp_path))
    for name in ALL_PORTS:
        monkeypatch.setenv(name, "0")


def environment_of(plan: Plan, name: str) -> dict[str, str]:
    return dict(next(spec.env for spec in plan.services if spec.name == name))


def test_everything_runs_here_by_default() -> None:
    plan = make_plan()
    assert plan.names == ["redis", "teacher", "student", "parity", "trainer", "parity-worker", "trainer-worker"]
    assert set(plan.endpoints) == {
        *("redis", "teacher", "student", "parity", "trainer"),
        *("parity-worker", "trainer-worker"),
    }
    assert len({url.rsplit(":", 1)[1] for url in plan.endpoints.values()}) == 7
    assert not plan.remote


def test_every_child_is_told_where_the_others_are(tmp_path: Path) -> None:
    plan = make_plan()
    for name in ("teacher", "parity-worker"):
        told = environment_of(plan, name)
        for service in ("redis", "teacher", "student", "parity"):
            assert told[f"MPA_{service.upper()}_URL"] == plan.endpoints[service]
        assert told["MPA_STUDENT_PORT"] == plan.endpoints["student"].rsplit(":", 1)[1]
        assert told["MPA_STORE"] == (tmp_path / "store").as_uri()


def test_a_remote_teacher_and_redis_are_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPA_TEACHER_URL", "https://teacher.example.com")
    monkeypatch.setenv("MPA_REDIS_URL", "redis://redis.example.com:6379/3")
    plan = make_plan()
    assert plan.names == ["student", "parity", "trainer", "parity-worker", "trainer-worker"]
    assert plan.remote == {"teacher": "https://teacher.example.com", "redis": "redis://redis.example.com:6379/3"}
    assert environment_of(plan, "parity-worker")["MPA_TEACHER_URL"] == "https://teacher.example.com"


def test_a_taken_port_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("MPA_STUDENT_PORT", str(taken.getsockname()[1]))
        with pytest.raises(Conflict, match="MPA_STUDENT_PORT=0"):
            make_plan()


def test_a_fixed_port_is_kept(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setenv("MPA_PARITY_PORT", str(free_port))
    monkeypatch.setenv("MPA_HOST", "0.0.0.0")
    assert make_plan().endpoints["parity"] == f"http://127.0.0.1:{free_port}"


def first_of_two_free_ports() -> int:
    """Where the next port is free too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def test_each_worker_has_a_port_for_its_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = first_of_two_free_ports()
    for first in (None, fixed):
        if first is not None:
            monkeypatch.setenv("MPA_METRICS_PORT", str(first))
        plan = make_plan()
        ports = {name: environment_of(plan, name)["MPA_METRICS_PORT"] for name in ("parity-worker", "trainer-worker")}
        assert {name: plan.endpoints[name].rsplit(":", 1)[1] for name in ports} == ports
        assert len(set(ports.values())) == 2
    assert ports == {"parity-worker": str(fixed), "trainer-worker": str(fixed + 1)}


def test_our_own_teacher_gets_the_system_s_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPA_API_KEY", "secret")
    assert environment_of(make_plan(), "parity")["MPA_TEACHER_API_KEY"] == "secret"
    monkeypatch.setenv("MPA_TEACHER_URL", "https://teacher.example.com")
    assert "MPA_TEACHER_API_KEY" not in environment_of(make_plan(), "parity")
