"""The commands about checkpoints: list them, show what serves, and change it."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.checkpoints.render import checkpoints_table, rollout_panel, swap_line
from services.cli.session import Json, ask_student, caller, show
from shared.client import StudentClient


def checkpoints(as_json: Json = False) -> None:
    """List the student's checkpoints: ● marks the active one, ○ the one that a rollback returns to."""
    show(ask_student(StudentClient.checkpoints), as_json, checkpoints_table)


def promote(version: Annotated[str, typer.Argument(help="Checkpoint version.")], as_json: Json = False) -> None:
    """Swap the running student to a checkpoint."""
    show(ask_student(lambda client: client.activate(version, by=caller())), as_json, swap_line)


def rollback(as_json: Json = False) -> None:
    """Swap the running student back to the version that it served before."""
    show(ask_student(StudentClient.rollback), as_json, swap_line)


def rollout(as_json: Json = False) -> None:
    """Show all replicas with the version that each one serves, and the canary."""
    show(ask_student(StudentClient.rollout), as_json, rollout_panel)
