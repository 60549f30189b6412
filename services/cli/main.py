"""`mpa`: submit jobs, watch them, read their pairs, move checkpoints."""

from __future__ import annotations

import os
import sys

import typer

from services.cli.benchmark.command import compare_runs, evaluate
from services.cli.checkpoints.canary import canary
from services.cli.checkpoints.command import checkpoints, promote, rollback, rollout
from services.cli.doctor.command import doctor
from services.cli.gc.command import gc
from services.cli.jobs.command import cancel, export, jobs, pairs, retry, status, submit
from services.cli.session import need

app = typer.Typer(
    help="Model Parity Aligner: make a small VLM answer like a big one, without labels.", no_args_is_help=True
)


@app.command()
def up() -> None:
    """Run all services and Redis on this machine until Ctrl-C."""
    need("all", "fastapi", "celery", "torch", "transformers")
    os.execv(sys.executable, [sys.executable, "-m", "services"])


app.command()(submit)
app.command()(jobs)
app.command()(status)
app.command()(pairs)
app.command()(cancel)
app.command()(retry)
app.command()(export)
app.command()(checkpoints)
app.command()(promote)
app.command()(rollback)
app.command()(rollout)
app.add_typer(canary, name="canary")
app.command()(evaluate)
app.command("compare")(compare_runs)
app.command()(doctor)
app.command()(gc)


if __name__ == "__main__":
    app()
