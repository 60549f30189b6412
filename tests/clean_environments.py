"""Virtual environments that hold the built wheel, and of this environment's packages only those that an extra names."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SOURCES = ("services", "shared", "presets")


def build_wheel(folder: Path) -> Path:
    """The project's wheel, built in ``folder`` from a copy, so that the checkout stays clean."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    subprocess.run(command, check=True, timeout=120)
    return next(folder.glob("*.whl"))


def environment_of(extras: Iterable[str], wheel: Path, folder: Path) -> Path:
    """The interpreter of a new environment with ``wheel`` and what it requires with ``extras``."""
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    project = PathDistribution(next(site.glob("mpa-*.dist-info")))
    link_packages(required_by(project, frozenset(extras)), site)
    return folder / "bin" / "python"


def required_by(project: Distribution, extras: frozenset[str]) -> list[Distribution]:
    """What pip would install beside ``project``, as it is installed here, without ``project`` itself."""
    itself = canonicalize_name(project.name)
    seen: dict[str, set[str]] = {}
    waiting = [(itself, extras | {""})]
    while waiting:
        name, asked = waiting.pop()
        new = asked - seen.get(name, set())
        if not new:
            continue
        seen.setdefault(name, set()).update(new)
        found = project if name == itself else distribution(name)
        for requirement in map(Requirement, found.requires or []):
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in new):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras) | {""}))
    return [distribution(name) for name in sorted(seen.keys() - {itself})]


def link_packages(packages: list[Distribution], site: Path) -> None:
    """Link what ``packages`` installed into ``site``; a folder that several of them share is created and filled."""
    owners: dict[str, set[int]] = defaultdict(set)
    installed = [(number, *found) for number, package in enumerate(packages) for found in _files(package)]
    for number, file, _ in installed:
        for folder in _folders(file):
            owners[folder].add(number)
    links: dict[str, str] = {}
    for _, file, root in installed:
        exclusive = next((folder for folder in _folders(file) if len(owners[folder]) == 1), file)
        links[exclusive] = f"{root}/{exclusive}"
    for name, origin in links.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).symlink_to(origin)


def _files(package: Distribution) -> Iterator[tuple[str, str]]:
    """The files that ``package`` has in site-packages, as paths from there, and the path of site-packages."""
    root = str(package.locate_file(""))
    for file in package.files or []:
        if file.parts[0] != "..":  # scripts and data lie beside site-packages
            yield str(file), root


def _folders(file: str) -> Iterator[str]:
    """The folders above ``file``, the outermost first."""
    for end, letter in enumerate(file):
        if letter == "/":
            yield file[:end]
