"""The commands about jobs: each asks the job API and shows the answer to a person or, with --json, to a program."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.jobs.export import export_set
from services.cli.jobs.render import job_panel, jobs_table, left_out_line, pairs_table
from services.cli.jobs.watch import watch_to_end
from services.cli.session import Exit, Json, ask_parity, err, fail, need, out, read_spec, show, show_json
from shared.client import ParityClient
from shared.contracts import JobState, JobStatus, Verdict

JobId = Annotated[str, typer.Argument(help="The job's id.")]


class ExportFormat(StrEnum):
    LLAVA = "llava"
    PARQUET = "parquet"


def submit(
    spec: Annotated[Path | None, typer.Argument(help="Job spec (YAML or JSON).")] = None,
    images: Annotated[
        str | None, typer.Option(help="Folder, glob, .jsonl/.parquet manifest or .zip to upload.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Task profile; may be repeated.")] = None,
    name: Annotated[str | None, typer.Option(help="Name to recognise the job by.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Submissions with one key create one job.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the job ends, and show its progress.")] = False,
    as_json: Json = False,
) -> None:
    """Submit a job: a spec file, options, or options over a spec file."""
    body: dict[str, Any] = read_spec(spec) if spec else {}
    body |= {key: value for key, value in (("tasks", task), ("name", name)) if value}
    if not body.get("images") and not images:
        fail("no images: give a spec file or --images FOLDER (and --task NAME).", Exit.BAD_INPUT)

    async def call(client: ParityClient) -> JobStatus:
        if images:
            body["images"] = [await _source_of(client, images)]
        job = await client.submit(body, idempotency_key)
        if job.left_out and not as_json:
            err.print(left_out_line(job.left_out), style="yellow", markup=False)
        if wait:
            err.print(f"job {job.id}")
            job = await watch_to_end(client, job, quiet=as_json)
        return job

    job = ask_parity(call)
    if as_json:
        show_json(job)
    elif not wait:
        typer.echo(job.id)
    _exit_with_outcome(job if wait else None)


def jobs(as_json: Json = False) -> None:
    """List jobs, newest first."""
    found = ask_parity(lambda client: client.jobs(limit=100)).jobs
    if as_json:
        show_json([job.model_dump(mode="json") for job in found])
    else:
        out.print(jobs_table(found) if found else "no jobs yet: submit one with `mpa submit`.")


def status(
    job_id: JobId,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow until the job ends.")] = False,
    as_json: Json = False,
) -> None:
    """Show a job's status; with --watch follow it to its end."""

    async def call(client: ParityClient) -> JobStatus:
        job = await client.job(job_id)
        return await watch_to_end(client, job, quiet=as_json) if watch else job

    job = ask_parity(call)
    if as_json:
        show_json(job)
    elif not watch:
        out.print(job_panel(job))
    _exit_with_outcome(job if watch else None)


def pairs(
    job_id: JobId,
    verdict: Annotated[Verdict | None, typer.Option(help="Show only pairs with this verdict.")] = None,
    task: Annotated[str | None, typer.Option(help="Show only pairs of this task.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Pairs per page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Continue after a page: the cursor printed with it.")] = None,
    as_json: Json = False,
) -> None:
    """List a job's pairs and their verdicts."""
    named = verdict.value if verdict else None
    page = ask_parity(lambda client: client.pairs(job_id, verdict=named, task=task, cursor=cursor, limit=limit))
    show(page, as_json, pairs_table)
    if page.next_cursor and not as_json:
        err.print(f"more: --cursor {page.next_cursor}")


def cancel(job_id: JobId, as_json: Json = False) -> None:
    """Cancel a job."""
    show(ask_parity(lambda client: client.cancel(job_id)), as_json, _state_of)


def retry(
    job_id: JobId,
    verdict: Annotated[
        list[str] | None,
        typer.Option(
            help="Make only the pairs with these verdicts again (refused, unparsable, unreadable_image; separated by "
            "commas), also of a job that succeeded."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a failed or cancelled job again; finished shards are kept. With --verdict, make only those pairs again."""
    named = [name.strip() for text in verdict or [] for name in text.split(",") if name.strip()]
    unknown = [name for name in named if name not in list(Verdict)]
    if unknown or (verdict and not named):
        fail(f"--verdict {', '.join(unknown) or 'is empty'}: the verdicts are {', '.join(Verdict)}.", Exit.BAD_INPUT)
    show(ask_parity(lambda client: client.retry(job_id, named)), as_json, _state_of)


def export(
    job_id: JobId,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    format: Annotated[ExportFormat, typer.Option("--format", help="llava (JSON) or parquet.")] = ExportFormat.LLAVA,
    verdict: Annotated[Verdict, typer.Option(help="Verdict of the pairs to write.")] = Verdict.DISPARITY,
    as_json: Json = False,
) -> None:
    """Write a job's pairs to one file for other tools."""
    if format is ExportFormat.PARQUET:
        need("queue", "pyarrow")
    count = ask_parity(lambda client: export_set(client, job_id, output, format.value, verdict))
    if as_json:
        show_json({"pairs": count, "output": str(output)})
    else:
        typer.echo(f"{count} pairs → {output}")


async def _source_of(client: ParityClient, images: str) -> dict[str, Any]:
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


def _state_of(job: JobStatus) -> str:
    return f"{job.id} {job.state.value}"


def _exit_with_outcome(job: JobStatus | None) -> None:
    if job is not None and job.state is JobState.FAILED:
        fail(f"job {job.id} failed: {job.last_error or job.reason}", Exit.JOB_FAILED)
    if job is not None and job.state is JobState.CANCELLED:
        fail(f"job {job.id} was cancelled", Exit.JOB_CANCELLED)
