"""The documentation: every page is listed, every link and path resolves, and what is generated is up to date."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.contracts import JobSpec, LoraSpec, LossSpec, Outcome, Verdict
from shared.vqa.task_files import read_task_file

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
INDEX = DOCS / "index.md"
CONFIGURATION = DOCS / "configuration.md"
FASTAPI_ROUTES = {("GET", "/docs"), ("GET", "/openapi.json")}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
MAX_README_LINES = 250
_FENCE = re.compile(r"^(\s*)(```|~~~).*?^\s*\2\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"(?<![\w/])(?:services|shared|tests)/[\w./{},*<>-]+")
_MODULE = re.compile(r"-m ((?:services|shared|demo|benchmarks|tests)(?:\.\w+)*)(?![\w.])")
_COMMAND = re.compile(r"(?<!-n )(?<![\w./-])mpa ([a-z]+)(?: (start|status|promote|abort)\b)?")
_ROUTE = re.compile(r"^(GET|POST|PUT|PATCH|DELETE) (/[^\s?`]*)", re.MULTILINE)
_SETTING = re.compile(r"MPA_[A-Z]+(?:_[A-Z]+)*(?![\w*])")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors that GitHub gives the headings of a page."""
    seen: dict[str, int] = {}
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6}\s+(.*?)\s*$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        found.add(f"{slug}-{count}" if count else slug)
    return frozenset(found)


def links(page: Path) -> Iterator[str]:
    """The relative links of a page, in prose."""
    for target in _LINK.findall(prose(page)):
        if not re.match(r"[a-z]+:", target):
            yield target


def broken(page: Path, target: str) -> str | None:
    """Why a link does not resolve; None if it does."""
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists():
        return f"{name(page)}: {target} does not exist"
    if anchor and file.suffix == ".md" and anchor not in anchors(file):
        return f"{name(page)}: {target} has no such heading"
    return None


def code_of(page: Path) -> list[str]:
    """What the page shows as code: in backticks, in fenced blocks and in indented ones."""
    text = page.read_text(encoding="utf-8")
    fenced = [match[0] for match in _FENCE.finditer(text)]
    return [*_CODE.findall(prose(page)), *fenced, *re.findall(r"^ {4}\S.*$", prose(page), re.MULTILINE)]


def named_paths(page: Path) -> Iterator[str]:
    """Paths of modules and tests that the page names as code, braces spelled out, without placeholders."""
    for code in code_of(page):
        for path in _PATH.findall(code):
            if "<" not in path:
                yield from _spelled_out(path.rstrip("."))


@cache
def known_settings() -> frozenset[str]:
    """Every environment variable that the services, the command line or Compose reads."""
    files = [*ROOT.glob("services/**/*.py"), *ROOT.glob("shared/**/*.py"), ROOT / "docker-compose.yml", CONFIGURATION]
    return frozenset(found for file in files for found in _SETTING.findall(file.read_text(encoding="utf-8")))


def _spelled_out(path: str) -> Iterator[str]:
    match = re.search(r"\{([^{}]*)\}", path)
    if match is None:
        yield path
        return
    for part in match[1].split(","):
        yield from _spelled_out(path[: match.start()] + part.strip() + path[match.end() :])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_resolve(page: Path) -> None:
    assert not [why for target in links(page) if (why := broken(page, target))]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_modules_and_tests_exist(page: Path) -> None:
    assert not [path for path in named_paths(page) if not list(ROOT.glob(path))]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_modules_that_are_run_exist(page: Path) -> None:
    files = [ROOT / module.replace(".", "/") for code in code_of(page) for module in _MODULE.findall(code)]
    assert not [file for file in files if not (file.with_suffix(".py").exists() or (file / "__main__.py").exists())]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_settings_exist(page: Path) -> None:
    known = set(re.findall(r"^## mpa (.+)$", (DOCS / "cli.md").read_text(encoding="utf-8"), re.MULTILINE))
    text = "\n".join(code_of(page))
    commands = {" ".join(filter(None, words)) if words[0] == "canary" else words[0] for words in _COMMAND.findall(text)}
    assert commands <= known
    assert set(_SETTING.findall(text)) <= known_settings()


def test_the_index_lists_every_page_once() -> None:
    listed = sorted(target.partition("#")[0] for target in links(INDEX) if not target.startswith("../"))
    assert listed == [page.name for page in PAGES[2:] if page != INDEX]


def test_every_room_is_described() -> None:
    rooms = [init.parent for init in (*ROOT.glob("services/*/*/__init__.py"), *ROOT.glob("shared/*/__init__.py"))]
    described = set(named_paths(ROOT / "CONTRIBUTING.md"))
    assert not [name(room) for room in rooms if name(room) not in described]


def test_every_import_contract_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = [contract["name"] for contract in project["tool"]["importlinter"]["contracts"]]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert not [contract for contract in contracts if f"| {contract} |" not in text]


def yaml_of(page: Path) -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)]


def undocumented(written: Mapping[str, Any], spec: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The fields of ``spec`` that ``written`` lacks. The fields of the loss are in method.md."""
    for key, value in spec.items():
        if key not in written:
            yield path + key
        elif isinstance(value, dict) and isinstance(written[key], dict) and key != "loss":
            yield from undocumented(written[key], value, f"{path}{key}.")


def test_the_documented_job_spec_has_every_field_with_its_default() -> None:
    written = yaml_of(DOCS / "api.md")[0]
    lora = written["train"].pop("lora")  # allowed only with method: lora
    spec = JobSpec.model_validate(written)
    assert spec == JobSpec(images=spec.images, tasks=spec.tasks, name=spec.name)
    assert LoraSpec(**lora) == LoraSpec()
    assert list(undocumented(written, spec.model_dump())) == ["train.lora"]


def test_every_field_of_the_loss_is_documented() -> None:
    text = (DOCS / "method.md").read_text(encoding="utf-8")
    assert not [field for field in LossSpec.model_fields if field not in text]


def test_the_documented_task_file_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "tasks.yaml"
    file.write_text(yaml.safe_dump(yaml_of(DOCS / "api.md")[1]))
    assert list(read_task_file(file)) == ["labels"]


def test_every_route_is_documented_and_every_documented_route_exists() -> None:
    routes: set[tuple[str, str]] = set()
    for file in (*ROOT.glob("services/*/app.py"), *ROOT.glob("services/*/api/*.py"), *ROOT.glob("shared/http/*.py")):
        code = file.read_text(encoding="utf-8")
        prefix = match[1] if (match := re.search(r'APIRouter\(.*?prefix="([^"]*)"', code, re.DOTALL)) else ""
        for verb, path in re.findall(r'@(?:app|router)\.(get|post|put|patch|delete)\(\s*"([^"]*)"', code):
            routes.add((verb.upper(), _without_names(prefix + path)))
    for page in PAGES:
        named = {(verb, _without_names(path)) for verb, path in _ROUTE.findall("\n".join(code_of(page)))}
        assert named - FASTAPI_ROUTES <= routes, name(page)
    text = _without_names((DOCS / "api.md").read_text(encoding="utf-8"))
    assert not [route for route in routes if f"`{' '.join(route)}`" not in text]


def _without_names(path: str) -> str:
    return re.sub(r"\{\w+\}|<\w+>", "{}", path)


@pytest.mark.parametrize("page", ["api.md", "glossary.md"])
def test_every_verdict_and_outcome_is_explained(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert not [value for value in (*Verdict, *Outcome) if f"`{value.value}`" not in text]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < MAX_README_LINES


def test_the_cli_reference_is_up_to_date() -> None:
    command = [sys.executable, ROOT / "scripts/cli_reference.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_dead_link_a_dead_anchor_and_a_dead_path_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](other.md) [b](#two) [c](#one) `shared/{store,no_such}/remote.py`\n")
    assert [why for target in links(page) if (why := broken(page, target))] == [
        "page.md: other.md does not exist",
        "page.md: #two has no such heading",
    ]
    assert list(named_paths(page)) == ["shared/store/remote.py", "shared/no_such/remote.py"]
