"""Follow a job to its end: a live panel in a terminal, else a line for each new state."""

from __future__ import annotations

import asyncio

from rich.live import Live

from services.cli.jobs.render import job_panel
from services.cli.session import err, out
from shared.client import ParityClient
from shared.contracts import JobState, JobStatus


async def watch_to_end(client: ParityClient, job: JobStatus, *, quiet: bool) -> JobStatus:
    """The job's final status. ``quiet`` prints nothing."""
    if quiet or not out.is_terminal:
        return await _poll_to_end(client, job, quiet=quiet)
    with Live(job_panel(job), console=out, refresh_per_second=8) as live:
        while not job.state.is_final:
            job = await client.job(job.id, wait=30, version=job.version)
            live.update(job_panel(job))
    return job


async def _poll_to_end(client: ParityClient, job: JobStatus, *, quiet: bool) -> JobStatus:
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
