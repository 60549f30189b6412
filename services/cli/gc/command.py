"""`mpa gc`: list, and with --delete remove, what no job needs any longer in the artifact store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Annotated

import typer

from services.cli.gc.inventory import sweep, take_stock
from services.cli.gc.rules import Removal, garbage, total_bytes
from services.cli.session import Exit, Json, fail, run, show_json
from shared.settings import ClientSettings
from shared.state import JobStore
from shared.store import Store

DAY = 86400.0
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY}


def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Delete what is found. The default is to list it.")] = False,
    older_than: Annotated[str, typer.Option(help="Minimum age, such as 12h or 7d; at least an hour.")] = "7d",
    as_json: Json = False,
) -> None:
    """List what no job needs any longer (docs/storage.md). Needs MPA_STORE and MPA_REDIS_URL, but no service.

    Exit codes: 0 done, even if nothing was found; 1 error; 2 bad input; 3 Redis or the store is unreachable.
    """
    seconds = _seconds(older_than)

    removals: list[Removal] = []

    async def call(settings: ClientSettings) -> None:
        store, jobs = Store(settings.store_url), JobStore.from_url(settings.redis_url)
        try:
            found = garbage(await take_stock(store, jobs), seconds)
            async for removal in sweep(store, jobs, found, seconds) if delete else _each(found):
                removals.append(removal)
                if not as_json:  # at once, so that the user knows what was deleted even if the rest fails
                    typer.echo(f"{removal.kind:<11}{removal.bytes:>14,} B  {removal.prefix}  ({removal.why})")
        finally:
            await jobs.aclose()

    run(call, hint="")
    if as_json:
        listed = [{"prefix": r.prefix, "kind": r.kind, "why": r.why, "bytes": r.bytes} for r in removals]
        show_json({"deleted": delete, "bytes": total_bytes(removals), "removals": listed})
        return
    said = "deleted" if delete else "could be deleted: run again with --delete"
    typer.echo(f"{len(removals)} found, {total_bytes(removals):,} bytes {said}")


async def _each(found: Iterable[Removal]) -> AsyncIterator[Removal]:
    for removal in found:
        yield removal


def _seconds(text: str) -> float:
    try:
        seconds = float(text[:-1]) * UNITS[text[-1:]]
    except (ValueError, KeyError):
        fail(
            f"--older-than {text!r} is not an age: write a number and s, m, h or d, such as 12h.",
            Exit.BAD_INPUT,
        )
    if not 0 <= seconds < float("inf"):
        fail(f"--older-than {text!r} is not an age: it must be at least 0.", Exit.BAD_INPUT)
    return seconds
