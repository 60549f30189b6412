"""Write docs/configuration.md, and the defaults in k8s/base/settings.env, from the settings classes.

``python scripts/configuration.py`` writes them; ``--check`` only compares (exit code 1: they differ). In settings.env
the lines that set something stay; every other setting is a comment with its default.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ByteSize, SecretStr, TypeAdapter
from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from shared.settings import SECRETS_DIR_VARIABLE, CommonSettings, common, services  # noqa: E402 - the path is set above

PAGE = ROOT / "docs/configuration.md"
ENV_FILE = ROOT / "k8s/base/settings.env"
INTRODUCTION = f"""# Configuration

<!-- Written by `make configuration` from shared/settings/; CI fails when it is out of date. -->

Every setting is an environment variable. A service reads its own group and the groups that this one names, and ignores
the rest, so one file serves all of them ([k8s/base/settings.env](../k8s/base/settings.env)). Durations are seconds
(`30`) or ISO 8601 (`PT30S`); sizes are bytes or `25MB`, `1GiB`; lists are JSON. A setting that the environment does not
have can come from a file named like the variable in lower case (`mpa_api_key`) in the folder that
`{SECRETS_DIR_VARIABLE}` names. Use that for keys. A service that finds bad values reports all of them and does not
start.
"""


def groups() -> list[type[CommonSettings]]:
    """The settings classes, parents first, as the modules have them."""
    named = [value for module in (common, services) for value in vars(module).values()]
    classes = [c for c in named if isinstance(c, type) and issubclass(c, CommonSettings)]
    return list(dict.fromkeys(classes))


def own_fields(group: type[CommonSettings]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields that the class itself declares, with their variables' names."""
    for name, field in group.model_fields.items():
        if name in inspect.get_annotations(group):
            yield f"MPA_{name.upper()}", field


def default_of(field: FieldInfo) -> str:
    """The default as one would write it in the environment; empty: none."""
    value = field.get_default(call_default_factory=True)
    if value is None:
        return ""
    if isinstance(value, timedelta):
        return str(TypeAdapter(timedelta).dump_python(value, mode="json"))
    if isinstance(value, ByteSize):
        return str(int(value))
    if isinstance(value, list):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value.value if isinstance(value, Enum) else value)


def kind_of(annotation: Any) -> str:
    """The type in a reader's words."""
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(kind_of(part) for part in get_args(annotation) if part is not NoneType)
    if get_origin(annotation) is list:
        return "JSON list"
    names = {bool: "true or false", int: "number", float: "number", str: "text", Path: "path", timedelta: "duration"}
    names |= {ByteSize: "size", SecretStr: "secret"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def page() -> str:
    parts = [INTRODUCTION]
    for group in groups():
        parents = [base.__name__ for base in group.__bases__ if issubclass(base, CommonSettings)]
        reads = f" Reads {', '.join(f'[{name}](#{name.lower()})' for name in parents)} too." if parents else ""
        rows = [
            f"| `{name}` | {kind_of(field.annotation)} | {_code(default_of(field))} | {field.description or ''} |"
            for name, field in own_fields(group)
        ]
        about = " ".join((group.__doc__ or "").split())
        table = ["| variable | type | default | what |", "| --- | --- | --- | --- |", *rows]
        parts.append("\n".join([f"## {group.__name__}\n", f"{about}{reads}\n", *table]) + "\n")
    return "\n".join(parts)


def env_file(text: str) -> str:
    """``text`` with every setting once: those it sets as they are, the others commented out with their defaults."""
    head = text.split("\n# CommonSettings", 1)[0].rstrip()
    given = dict(re.findall(r"^(MPA_[A-Z_0-9]+)=(.*)$", text, flags=re.MULTILINE))
    head = "\n".join(line for line in head.splitlines() if not line.startswith("MPA_"))
    lines = [head, f"{SECRETS_DIR_VARIABLE}={given.pop(SECRETS_DIR_VARIABLE)}"]
    seen: set[str] = set()
    for group in groups():
        named = []
        for name, field in own_fields(group):
            if name in seen or field.annotation is SecretStr or SecretStr in get_args(field.annotation):
                continue
            seen.add(name)
            named.append(f"{name}={given.pop(name)}" if name in given else f"# {name}={default_of(field)}".rstrip())
        if named:
            lines += ["", f"# {group.__name__}", *named]
    if given:
        raise SystemExit(f"{ENV_FILE} sets what no service reads: {', '.join(given)}")
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def main() -> int:
    wanted = {PAGE: page(), ENV_FILE: env_file(ENV_FILE.read_text())}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: run `make configuration`.")
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
