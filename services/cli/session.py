"""Where the services are, and how failures become one clear line and a meaningful exit code."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from enum import IntEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import httpx
import typer
import yaml
from pydantic import BaseModel, ValidationError
from rich.console import Console, RenderableType
from rich.markup import escape

from shared.client import ParityClient, StudentClient
from shared.contracts import finite
from shared.errors import MPAError, NotFound, Unavailable, UpstreamError
from shared.settings import ClientSettings, read_settings
from shared.text_files import parse_json, read_text

out = Console()
err = Console(stderr=True, highlight=False)
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Exit(IntEnum):
    """What the exit code of `mpa` means."""

    OK = 0
    ERROR = 1
    BAD_INPUT = 2
    UNAVAILABLE = 3
    NOT_FOUND = 4
    JOB_FAILED = 5
    JOB_CANCELLED = 6


def load_settings() -> ClientSettings:
    """Settings from the environment; a running ``mpa up`` in the data folder supplies the rest."""
    settings = read_settings(ClientSettings)
    endpoints = settings.data_dir / "endpoints.json"
    if endpoints.exists():
        found: dict[str, str] = json.loads(endpoints.read_text())
        for name in ("parity", "student", "teacher", "trainer", "redis"):
            if f"MPA_{name.upper()}_URL" not in os.environ and name in found:
                setattr(settings, f"{name}_url", found[name])
    return settings


SERVICES_AWAY = "Is the system running? Start it with `mpa up`, or set MPA_PARITY_URL."


def run(call: Callable[[ClientSettings], Coroutine[Any, Any, T]], hint: str = SERVICES_AWAY) -> T:
    """Run one command's coroutine; any failure ends as one line on stderr and an exit code.

    ``hint``: what to do if a service that the command needs does not answer.
    """
    with _failures_as_exit_codes(hint):
        return asyncio.run(call(load_settings()))
    raise AssertionError("unreachable")


def ask_parity(call: Callable[[ParityClient], Coroutine[Any, Any, T]]) -> T:
    """``run`` with a client of the job API."""

    async def connected(settings: ClientSettings) -> T:
        async with ParityClient(settings.parity_url, api_key=_key(settings)) as client:
            return await call(client)

    return run(connected)


def ask_student(call: Callable[[StudentClient], Coroutine[Any, Any, T]]) -> T:
    """``run`` with a client of the student."""

    async def connected(settings: ClientSettings) -> T:
        async with StudentClient(settings.student_url, model="student", api_key=_key(settings)) as client:
            return await call(client)

    return run(connected)


def show(value: M, as_json: bool, for_people: Callable[[M], RenderableType]) -> None:
    """``value`` on stdout: as JSON, or as ``for_people`` renders it. A string is printed as it is."""
    if as_json:
        show_json(value)
    elif isinstance(rendered := for_people(value), str):
        typer.echo(rendered)
    else:
        out.print(rendered)


def show_json(value: BaseModel | list[Any] | dict[str, Any]) -> None:
    """One JSON document on stdout, for machines."""
    data = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def fail(message: str, code: Exit) -> NoReturn:
    """Print one line on stderr and exit."""
    err.print(f"[bold red]error:[/] {escape(_one_line(message))}", soft_wrap=True)
    raise typer.Exit(int(code))


def need(extra: str, *modules: str) -> None:
    """Fail with one line unless ``modules`` are installed; ``extra`` is the extra of the package that brings them."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        fail(f"this needs {', '.join(missing)}: run pip install 'mpa[{extra}]'.", Exit.ERROR)


def read_spec(path: Path) -> dict[str, Any]:
    """A job spec from a YAML or JSON file."""
    try:
        text = read_text(path)
        # JSON is nearly YAML, but YAML folds a U+2028 in a string.
        data: Any = parse_json(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        fail(f"{path}: {error.strerror}. Give the path of a YAML or JSON job spec.", Exit.BAD_INPUT)
    except (yaml.YAMLError, ValueError) as error:
        fail(f"{path} is not valid YAML or JSON: {error}", Exit.BAD_INPUT)
    if not isinstance(data, dict):
        fail(f"{path} must hold one mapping of fields (images, tasks, …), not a {type(data).__name__}.", Exit.BAD_INPUT)
    if finite(data) != data:
        fail(
            f"{path} holds a number that is not finite (.inf, .nan, 1e999), which JSON cannot express.", Exit.BAD_INPUT
        )
    return data


@contextmanager
def _failures_as_exit_codes(hint: str) -> Iterator[None]:
    try:
        yield
    except Unavailable as error:
        fail(f"{error.detail} {hint}", Exit.UNAVAILABLE)
    except (httpx.HTTPError, ConnectionError) as error:
        fail(f"the connection broke: {type(error).__name__} {error}", Exit.UNAVAILABLE)
    except UpstreamError as error:
        codes = {
            404: Exit.NOT_FOUND,
            400: Exit.BAD_INPUT,
            409: Exit.BAD_INPUT,
            413: Exit.BAD_INPUT,
            422: Exit.BAD_INPUT,
        }
        fail(error.detail, codes.get(error.upstream_status or 0, Exit.ERROR))
    except NotFound as error:
        fail(error.detail, Exit.NOT_FOUND)
    except MPAError as error:
        fail(error.detail, Exit.ERROR)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        fail(problems, Exit.BAD_INPUT)
    except KeyboardInterrupt:
        fail("interrupted; submitted jobs keep running: see `mpa jobs`.", Exit.ERROR)


def caller() -> str:
    """Who changes something, for the records."""
    return f"cli:{os.environ.get('USER', 'unknown')}"


def _key(settings: ClientSettings) -> str | None:
    return settings.api_key.get_secret_value() if settings.api_key else None


def _one_line(message: str) -> str:
    return " ".join(message.split())
