"""`mpa`: submit jobs, watch them, read their pairs, move checkpoints.

Exit codes: 0 ok, 1 error, 2 bad input, 3 a service is unreachable, 4 not found, 5 the awaited job failed, 6 it was
cancelled.
"""

from __future__ import annotations

import asyncio
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live

from services.cli.benchmark.command import compare_runs, evaluate
from services.cli.doctor.command import doctor
from services.cli.export import export_set
from services.cli.gc.command import gc
from services.cli.render import checkpoints_table, job_panel, jobs_table, pairs_table
from services.cli.rollout import add_commands
from services.cli.session import (
    Exit,
    err,
    fail,
    need,
    out,
    parity_client,
    read_spec,
    run,
    show_json,
    student_client,
)
from shared.contracts import JobState, JobStatus, Verdict
from shared.settings import ClientSettings

app = typer.Typer(
    help="Model Parity Aligner: make a small VLM answer like a big one, without labels.", no_args_is_help=True
)
add_commands(app)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobId = Annotated[str, typer.Argument(help="The job's id.")]

app.command("evaluate")(evaluate)
app.command("compare")(compare_runs)
app.command("doctor")(doctor)
app.command("gc")(gc)


class ExportFormat(StrEnum):
    LLAVA = "llava"
    PARQUET = "parquet"


@app.command()
def up() -> None:
    """Run all services and Redis on this machine until Ctrl-C."""
    need("all", "fastapi", "celery", "torch", "transformers")
    os.execv(sys.executable, [sys.executable, "-m", "services"])


@app.command()
def submit(
    spec: Annotated[Path | None, typer.Argument(help="Job spec (YAML or JSON).")] = None,
    images: Annotated[
        str | None, typer.Option(help="Folder, glob, .jsonl/.parquet manifest or .zip to upload.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Task profile; may be repeated.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Submitting twice with one key makes one job.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end with a progress display.")] = False,
    as_json: Json = False,
) -> None:
    """Submit a job: a spec file, options, or options over a spec file."""
    body: dict[str, Any] = read_spec(spec) if spec else {}
    body |= {key: value for key, value in (("tasks", task), ("name", name)) if value}
    if not body.get("images") and not images:
        fail("no images: give a spec file or --images FOLDER (and --task NAME).", Exit.BAD_INPUT)

    async def call(settings: ClientSettings) -> JobStatus:
        async with parity_client(settings) as client:
            if images:
                body["images"] = [await _source_of(client, images)]
            job = await client.submit(body, idempotency_key)
            if wait:
                err.print(f"job {job.id}")
                job = await _watch(client, job, quiet=as_json)
            return job

    job = run(call)
    if as_json:
        show_json(job)
    elif not wait:
        typer.echo(job.id)
    _exit_with_outcome(job if wait else None)


@app.command()
def jobs(as_json: Json = False) -> None:
    """List jobs, newest first."""

    async def call(settings: ClientSettings) -> list[JobStatus]:
        async with parity_client(settings) as client:
            return (await client.jobs(limit=100)).jobs

    found = run(call)
    if as_json:
        show_json([job.model_dump(mode="json") for job in found])
    else:
        out.print(jobs_table(found) if found else "no jobs yet: submit one with `mpa submit`.")


@app.command()
def status(
    job_id: JobId,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow until the job ends.")] = False,
    as_json: Json = False,
) -> None:
    """Show a job's status; with --watch follow it to its end."""

    async def call(settings: ClientSettings) -> JobStatus:
        async with parity_client(settings) as client:
            job = await client.job(job_id)
            return await _watch(client, job, quiet=as_json) if watch else job

    job = run(call)
    if as_json:
        show_json(job)
    elif not watch:
        out.print(job_panel(job))
    _exit_with_outcome(job if watch else None)


@app.command()
def pairs(
    job_id: JobId,
    verdict: Annotated[Verdict | None, typer.Option(help="Only this verdict.")] = None,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Continue after an earlier page.")] = None,
    as_json: Json = False,
) -> None:
    """List a job's pairs and their verdicts."""

    async def call(settings: ClientSettings) -> Any:
        async with parity_client(settings) as client:
            return await client.pairs(
                job_id, verdict=verdict.value if verdict else None, task=task, cursor=cursor, limit=limit
            )

    page = run(call)
    if as_json:
        show_json(page)
        return
    out.print(pairs_table(page))
    if page.next_cursor:
        err.print(f"more: --cursor {page.next_cursor}")


@app.command()
def cancel(job_id: JobId, as_json: Json = False) -> None:
    """Cancel a job."""

    async def call(settings: ClientSettings) -> JobStatus:
        async with parity_client(settings) as client:
            return await client.cancel(job_id)

    job = run(call)
    if as_json:
        show_json(job)
    else:
        typer.echo(f"{job.id} {job.state.value}")


@app.command()
def retry(job_id: JobId, as_json: Json = False) -> None:
    """Run a failed or cancelled job again; finished shards are kept."""

    async def call(settings: ClientSettings) -> JobStatus:
        async with parity_client(settings) as client:
            return await client.retry(job_id)

    job = run(call)
    if as_json:
        show_json(job)
    else:
        typer.echo(f"{job.id} {job.state.value}")


@app.command()
def checkpoints(as_json: Json = False) -> None:
    """List the student's checkpoints; ● serves, ○ is what a rollback returns to."""

    async def call(settings: ClientSettings) -> Any:
        async with student_client(settings) as client:
            return await client.checkpoints()

    found = run(call)
    if as_json:
        show_json(found)
    else:
        out.print(checkpoints_table(found))


@app.command()
def promote(version: Annotated[str, typer.Argument(help="Checkpoint version.")], as_json: Json = False) -> None:
    """Swap the running student to a checkpoint."""

    async def call(settings: ClientSettings) -> Any:
        async with student_client(settings) as client:
            return await client.activate(version, by=f"cli:{os.environ.get('USER', 'unknown')}")

    _show_swap(run(call), as_json)


@app.command()
def rollback(as_json: Json = False) -> None:
    """Swap the running student back to the version that served before."""

    async def call(settings: ClientSettings) -> Any:
        async with student_client(settings) as client:
            return await client.rollback()

    _show_swap(run(call), as_json)


@app.command()
def export(
    job_id: JobId,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    format: Annotated[ExportFormat, typer.Option("--format", help="llava (JSON) or parquet.")] = ExportFormat.LLAVA,
    verdict: Annotated[Verdict, typer.Option(help="Which pairs.")] = Verdict.DISPARITY,
    as_json: Json = False,
) -> None:
    """Write a job's pairs to one file for other tools."""
    if format is ExportFormat.PARQUET:
        need("queue", "pyarrow")

    async def call(settings: ClientSettings) -> int:
        async with parity_client(settings) as client:
            return await export_set(client, job_id, output, format.value, verdict)

    count = run(call)
    if as_json:
        show_json({"pairs": count, "output": str(output)})
    else:
        typer.echo(f"{count} pairs → {output}")


async def _source_of(client: Any, images: str) -> dict[str, Any]:
    """The image source that a path on the command line stands for."""
    path = Path(images)
    if path.suffix in (".jsonl", ".parquet"):
        return {"kind": "manifest", "path": str(path.absolute())}
    if path.suffix == ".zip":
        if not path.is_file():
            fail(f"{path} does not exist.", Exit.BAD_INPUT)
        receipt = await client.upload(path)
        return {"kind": "upload", "upload_id": receipt.upload_id}
    if any(c in images for c in "*?["):
        return {"kind": "glob", "pattern": str(path.absolute())}
    return {"kind": "folder", "path": images if "://" in images else str(path.absolute())}


async def _watch(client: Any, job: JobStatus, *, quiet: bool) -> JobStatus:
    if quiet or not out.is_terminal:
        return await _poll_to_end(client, job, quiet=quiet)
    with Live(job_panel(job), console=out, refresh_per_second=8) as live:
        while not job.state.is_final:
            job = await client.job(job.id, wait=30, version=job.version)
            live.update(job_panel(job))
    return job


async def _poll_to_end(client: Any, job: JobStatus, *, quiet: bool) -> JobStatus:
    """Without a terminal: a line whenever the state changes, and the whole panel at the end."""
    state: JobState | None = None
    while True:
        if job.state != state and not quiet:
            err.print(f"{job.updated_at:%H:%M:%S} {job.state.value}")
        state = job.state
        if job.state.is_final:
            break
        job = await client.job(job.id, wait=30, version=job.version)
        await asyncio.sleep(0.2)
    if not quiet:
        out.print(job_panel(job))
    return job


def _show_swap(result: Any, as_json: bool) -> None:
    if as_json:
        show_json(result)
    elif result.changed:
        typer.echo(f"{result.previous} → {result.version} in {result.seconds:.2f} s")
    else:
        typer.echo(f"{result.version} serves already")


def _exit_with_outcome(job: JobStatus | None) -> None:
    if job is not None and job.state is JobState.FAILED:
        fail(f"job {job.id} failed: {job.last_error or job.reason}", Exit.JOB_FAILED)
    if job is not None and job.state is JobState.CANCELLED:
        fail(f"job {job.id} was cancelled", Exit.JOB_CANCELLED)


if __name__ == "__main__":
    app()
