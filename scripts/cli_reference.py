"""Write docs/cli.md from the command line itself.

``python scripts/cli_reference.py`` writes the page; ``--check`` only compares it (exit code 1: it is out of date).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from services.cli.main import app  # noqa: E402 - the path is set above
from services.cli.session import Exit  # noqa: E402

PAGE = ROOT / "docs/cli.md"
INTRODUCTION = """# Command line

<!-- Written by `make configuration` from services/cli/; CI fails when it is out of date. -->

`mpa` is the command-line client of the job API and of the student. Where no script is installed,
`python -m services.cli` is the same command. It finds the services through `MPA_PARITY_URL`, `MPA_STUDENT_URL` and its
other [settings](configuration.md#clientsettings); if these are not set, through `endpoints.json` in `MPA_DATA_DIR`,
which a running `mpa up` writes there.

With `--json` a command prints one JSON document on stdout. An error is one line on stderr that names the input, says
what is wrong, and what to do.
"""
EXIT_CODES = {
    Exit.OK: "The command succeeded.",
    Exit.ERROR: "Any other error. `mpa doctor`: something is broken.",
    Exit.BAD_INPUT: "The input is wrong: an option, a file, a job spec, or a request that the job's state forbids.",
    Exit.UNAVAILABLE: "A service, Redis or the store cannot be reached.",
    Exit.NOT_FOUND: "The job, checkpoint or canary does not exist.",
    Exit.JOB_FAILED: "`mpa submit --wait` or `mpa status --watch`: the job failed.",
    Exit.JOB_CANCELLED: "`mpa submit --wait` or `mpa status --watch`: the job was cancelled.",
}


def commands(group: Any, context: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    """Every command below ``group`` as (full name, command, its context), by name; groups before their commands."""
    for word in sorted(group.list_commands(context)):
        command = group.get_command(context, word)
        own = type(context)(command, info_name=word, parent=context)
        yield f"{name} {word}", command, own
        if hasattr(command, "list_commands"):
            yield from commands(command, own, f"{name} {word}")


def section(name: str, command: Any, context: Any) -> str:
    """One command: what it does, how it is called, its arguments and options."""
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts = [f"## {name}", (command.help or "").strip(), f"```console\n$ {usage}\n```"]
    records = [record for param in command.get_params(context) if (record := param.get_help_record(context))]
    rows = [f"| `{_cell(names)}` | {_cell(about)} |" for names, about in records if names != "--help"]
    if rows:
        parts.append("\n".join(["| argument or option | meaning |", "| --- | --- |", *rows]))
    return "\n\n".join(parts)


def page() -> str:
    """The whole page."""
    root: Any = typer.main.get_command(app)
    context = root.make_context("mpa", ["jobs"], resilient_parsing=True)
    found = list(commands(root, context, "mpa"))
    codes = [f"| {code.value} | {EXIT_CODES[code]} |" for code in Exit]
    links = [
        f"| [`{name}`](#{name.replace(' ', '-')}) | {_cell(command.help or '').split('. ')[0].rstrip('.')} |"
        for name, command, _ in found
    ]
    parts = [
        INTRODUCTION.strip(),
        "\n".join(["| command | what it does |", "| --- | --- |", *links]),
        "\n".join(["## Exit codes", "", "| code | meaning |", "| --- | --- |", *codes]),
        *(section(*one) for one in found),
    ]
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def main() -> int:
    wanted = page()
    if PAGE.exists() and PAGE.read_text() == wanted:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{PAGE.relative_to(ROOT)} is out of date: run `make configuration`.")
        return 1
    PAGE.write_text(wanted)
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
