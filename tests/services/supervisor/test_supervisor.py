"""A real supervisor process with small real services: one log, endpoints, signals, kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from services.supervisor.supervisor import SERVICE_STOP_SECONDS
from tests.polling import wait_until
from tests.processes import descendants
from tests.services.supervisor.small import gone

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts supervisors on this test's data folder; none survives the test."""
    started: list[subprocess.Popen[str]] = []

    def run(stop_seconds: float = 1.5, **kinds: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.services.supervisor.small", str(tmp_path)]
        command += [f"{name}={kind}" for name, kind in kinds.items()]
        environment = {**os.environ, "LOCK_SECONDS": "0.2", "STOP_SECONDS": str(stop_seconds)}
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
        return started[-1]

    yield run
    for process in started:
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()


def endpoints(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / "endpoints.json").read_text())
    return found


def wait_for_endpoints(folder: Path) -> dict[str, str]:
    wait_until((folder / "endpoints.json").exists, timeout=30)
    return endpoints(folder)


def test_it_starts_announces_and_stops_everything(start: Start, tmp_path: Path) -> None:
    process = start(redis="good", student="good", parity="good")
    found = wait_for_endpoints(tmp_path)
    assert set(found) == {"redis", "student", "parity", "pid"}
    assert int(found["pid"]) == process.pid
    assert httpx.get(f"{found['student']}/readyz", timeout=5).status_code == 200
    family = descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=15)
    assert process.returncode == 0
    assert all(gone(pid) for pid in family)
    assert not (tmp_path / "endpoints.json").exists()
    log = (tmp_path / "logs" / "mpa.log").read_text()
    for words in ("all services are ready after", "student    | good speaks", found["parity"], "all stopped after"):
        assert words in log
        assert words in output


def test_the_first_is_ready_before_the_others_start(start: Start, tmp_path: Path) -> None:
    start(redis="good", student="good")
    wait_for_endpoints(tmp_path)
    log = (tmp_path / "logs" / "mpa.log").read_text()
    assert log.index("redis is ready") < log.index("student    | good speaks")


@pytest.mark.slow
def test_ctrl_c_stops_a_stubborn_service_within_15_seconds(start: Start, tmp_path: Path) -> None:
    process = start(SERVICE_STOP_SECONDS, redis="good", student="stubborn")
    wait_for_endpoints(tmp_path)
    family, started = descendants(process.pid), time.monotonic()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert time.monotonic() - started < 15
    assert "student did not stop in 10 s and was killed" in output
    assert all(gone(pid) for pid in family)


def test_a_second_ctrl_c_does_not_wait(start: Start, tmp_path: Path) -> None:
    process = start(30, redis="good", student="stubborn")
    wait_for_endpoints(tmp_path)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    wait_until(lambda: "stopping" in (tmp_path / "logs" / "mpa.log").read_text())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert time.monotonic() - started < 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["good", "stubborn", "family"])
def test_kill_9_of_the_supervisor_leaves_no_process(start: Start, tmp_path: Path, kind: str) -> None:
    process = start(redis="good", student=kind)
    wait_for_endpoints(tmp_path)
    family = descendants(process.pid)
    assert len(family) >= 3
    process.kill()
    wait_until(lambda: all(gone(pid) for pid in family), timeout=15)
    assert not (tmp_path / "endpoints.json").exists()


def test_a_killed_service_comes_back(start: Start, tmp_path: Path) -> None:
    process = start(redis="good", student="good")
    url = wait_for_endpoints(tmp_path)["student"]
    victim = next(pid for pid in descendants(process.pid) if url.rsplit(":", 1)[1] in _arguments(pid))
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: "restarting in" in (tmp_path / "logs" / "mpa.log").read_text())
    wait_until(lambda: _answers(url))
    assert process.poll() is None


@pytest.mark.slow
def test_a_service_that_cannot_start_ends_it_all_with_its_words(start: Start, tmp_path: Path) -> None:
    process = start(redis="good", student="dead")
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 1
    assert "student ended 3 times before it was ready" in output
    assert "no model there" in output
    assert not (tmp_path / "endpoints.json").exists()


def test_a_signal_while_it_starts_stops_it(start: Start, tmp_path: Path) -> None:
    process = start(redis="good", student="cold")
    log = tmp_path / "logs" / "mpa.log"
    wait_until(lambda: log.exists() and "cold speaks" in log.read_text(), timeout=20)
    family = descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=15)
    assert process.returncode == 0
    assert all(gone(pid) for pid in family)


def test_two_systems_cannot_share_a_data_folder(start: Start, tmp_path: Path) -> None:
    start(redis="good")
    wait_for_endpoints(tmp_path)
    second = start(redis="good")
    output, _ = second.communicate(timeout=20)
    assert second.returncode != 0
    assert "Another system is running on" in output


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
