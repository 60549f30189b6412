"""One release number, in the code and in the package."""

from __future__ import annotations

import tomllib
from pathlib import Path

from shared.compatibility import RELEASE


def test_the_release_is_the_packages() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert project["version"] == RELEASE
