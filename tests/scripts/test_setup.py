"""`make setup` as it talks to a terminal and to a log."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "setup.sh"
# It ends with an error before it touches anything.
WITHOUT_PYTHON = {"PATH": os.environ["PATH"], "PYTHON": "no-such-python"}


def said(stderr: int, environment: dict[str, str]) -> None:
    done = subprocess.run([SCRIPT], env=environment, stderr=stderr, stdin=subprocess.DEVNULL, timeout=30)
    assert done.returncode == 1


def test_a_log_gets_plain_text(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        said(log.fileno(), WITHOUT_PYTHON)
    text = (tmp_path / "log").read_text()
    assert text.startswith("[setup] error: no-such-python was not found") and "\033" not in text


@pytest.mark.parametrize(("extra", "bold"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_it_wants_none(extra: dict[str, str], bold: bool) -> None:
    ours, terminal = pty.openpty()
    try:
        said(terminal, WITHOUT_PYTHON | extra)
        text = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(terminal)
    assert "error: no-such-python was not found" in text and ("\033[1m" in text) == bold
