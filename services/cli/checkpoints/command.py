"""The commands about checkpoints: list them, show what serves, and change it."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.checkpoints.render import checkpoints_table, rollout_panel, swap_line
from services.cli.session import Json, caller, out, run, show_json, student_client
from shared.contracts import CheckpointList, RolloutView, SwapResult
from shared.settings import ClientSettings


def checkpoints(as_json: Json = False) -> None:
    """List the student's checkpoints: ● marks the active one, ○ the one that a rollback returns to."""

    async def call(settings: ClientSettings) -> CheckpointList:
        async with student_client(settings) as client:
            return await client.checkpoints()

    found = run(call)
    if as_json:
        show_json(found)
    else:
        out.print(checkpoints_table(found))


def promote(version: Annotated[str, typer.Argument(help="Checkpoint version.")], as_json: Json = False) -> None:
    """Swap the running student to a checkpoint."""

    async def call(settings: ClientSettings) -> SwapResult:
        async with student_client(settings) as client:
            return await client.activate(version, by=caller())

    show_swap(run(call), as_json)


def rollback(as_json: Json = False) -> None:
    """Swap the running student back to the version that it served before."""

    async def call(settings: ClientSettings) -> SwapResult:
        async with student_client(settings) as client:
            return await client.rollback()

    show_swap(run(call), as_json)


def rollout(as_json: Json = False) -> None:
    """Show all replicas with the version that each one serves, and the canary."""
    view = read_rollout()
    if as_json:
        show_json(view)
    else:
        out.print(rollout_panel(view))


def read_rollout() -> RolloutView:
    async def call(settings: ClientSettings) -> RolloutView:
        async with student_client(settings) as client:
            return await client.rollout()

    return run(call)


def show_swap(result: SwapResult, as_json: bool) -> None:
    if as_json:
        show_json(result)
    else:
        typer.echo(swap_line(result))
