"""The job API. Routes only: parse, call one function, return a contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from services.parity.components import Components, lifespan, ready
from services.parity.images.upload_routes import receive_upload
from services.parity.jobs.pair_pages import read_pairs
from services.parity.jobs.report import make_report
from shared.contracts import (
    JobEvent,
    JobList,
    JobReport,
    JobSpec,
    JobStatus,
    PairPage,
    TaskInfo,
    TaskList,
    UploadReceipt,
    Verdict,
)
from shared.http import create_app, errors, named, sse
from shared.settings import ParitySettings
from shared.sse import MEDIA_TYPE, write_comment, write_event
from shared.state import REDIS_OUTAGES

LONGEST_WAIT = 60.0


def make_app(settings: ParitySettings) -> FastAPI:
    """The parity service's HTTP API, with the reconciler in its lifespan."""
    app = create_app("parity", settings, lifespan=lifespan(settings), ready=ready, outages=REDIS_OUTAGES)
    _add_job_routes(app)
    _add_result_routes(app)
    _add_input_routes(app)
    return app


def _components(request: Request) -> Components:
    components: Components = request.app.state.components
    return components


ComponentsOf = Annotated[Components, Depends(_components)]
JobId = Annotated[str, Path(description="id of the job")]
Limit = Annotated[int, Query(ge=1, le=1000, description="longest page")]
Cursor = Annotated[str | None, Query(description="next_cursor of the page before; left out: the first page")]
_EVENT = 'id: 7\nevent: status\ndata: {"version": 7, "status": {"id": "job-1", "state": "collecting"}}\n\n'
_ETAG = {"ETag": {"description": "version of the status", "schema": {"type": "string"}}}
_UPLOAD = named(
    "Upload",
    {
        "type": "object",
        "required": ["files"],
        "properties": {
            "files": {
                "type": "array",
                "items": {"type": "string", "format": "binary"},
                "minItems": 1,
                "description": "images, or zip files of images",
            }
        },
    },
)


def _add_job_routes(app: FastAPI) -> None:
    @app.post(
        "/v1/jobs",
        status_code=202,
        tags=["jobs"],
        responses={
            202: {"headers": {"Location": {"description": "path of the job", "schema": {"type": "string"}}}},
            **errors(403, 404, 409, 502),
        },
    )
    async def submit_job(
        spec: JobSpec,
        response: Response,
        components: ComponentsOf,
        idempotency_key: Annotated[
            str | None, Header(max_length=255, description="the same key means the same job")
        ] = None,
    ) -> JobStatus:
        """Accept a job. The same ``Idempotency-Key`` with the same body returns the same job."""
        job_id, _ = await components.submitter.submit(spec, idempotency_key)
        components.reconciler.poke()
        response.headers["Location"] = f"/v1/jobs/{job_id}"
        return await components.status(job_id)

    @app.get("/v1/jobs", tags=["jobs"])
    async def list_jobs(components: ComponentsOf, cursor: Cursor = None, limit: Limit = 50) -> JobList:
        """All jobs, newest first."""
        return await components.page(cursor, limit)

    @app.get(
        "/v1/jobs/{job_id}",
        tags=["jobs"],
        response_model=JobStatus,
        responses={
            200: {"headers": _ETAG},
            304: {"description": "The status is the one that is known.", "headers": _ETAG},
        },
    )
    async def get_job(
        job_id: JobId,
        components: ComponentsOf,
        wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT, description="seconds to wait for a change")] = 0.0,
        if_none_match: Annotated[str | None, Header(description="ETag of the status that is known")] = None,
    ) -> Response:
        """The status. With ``wait`` and ``If-None-Match`` it is sent when the version changes; 304 if it does not."""
        known = components.version_in(if_none_match)
        status = await components.status(job_id)
        if wait > 0 and (known is None or known == status.version) and not status.state.is_final:
            await components.wait(status, wait)
            status = await components.status(job_id)
        headers = {"ETag": f'"{status.version}"'}
        if known == status.version:
            return Response(status_code=304, headers=headers)
        return Response(status.model_dump_json(), headers=headers, media_type="application/json")

    @app.post("/v1/jobs/{job_id}/cancel", tags=["jobs"], responses=errors(409))
    async def cancel_job(job_id: JobId, components: ComponentsOf) -> JobStatus:
        """Stop a job. What it has collected stays."""
        await components.cancel(job_id)
        return await components.status(job_id)

    @app.post("/v1/jobs/{job_id}/retry", status_code=202, tags=["jobs"], responses=errors(409))
    async def retry_job(
        job_id: JobId,
        components: ComponentsOf,
        verdict: Annotated[
            list[Verdict] | None,
            Query(
                description="make only the pairs with one of these again, also of a job that succeeded: refused, "
                "unparsable, unreadable_image; the other pairs stay as they are",
                examples=[["refused", "unparsable"]],
            ),
        ] = None,
    ) -> JobStatus:
        """Restart a failed or cancelled job. Its finished shards are kept.

        With ``verdict``, make those pairs of a succeeded or failed job again. If that changes the set, the job trains
        again, from the version that is active then; otherwise it ends as before.
        """
        await components.retry(job_id, verdict or [])
        return await components.status(job_id)

    @app.get(
        "/v1/jobs/{job_id}/events",
        tags=["jobs"],
        response_class=StreamingResponse,
        responses={200: {"content": sse("events of type status, whose data is a JobEvent", _EVENT, JobEvent)}},
    )
    async def stream_events(job_id: JobId, components: ComponentsOf) -> StreamingResponse:
        """Server-sent events: the status now and at every change, until the job is final."""
        first = await components.status(job_id)
        return StreamingResponse(_sse(components.changes(first)), media_type=MEDIA_TYPE)


def _add_result_routes(app: FastAPI) -> None:
    @app.get("/v1/jobs/{job_id}/pairs", tags=["results"], responses=errors(409))
    async def list_pairs(
        job_id: JobId,
        components: ComponentsOf,
        verdict: Annotated[list[Verdict] | None, Query(description="only pairs with one of these")] = None,
        task: Annotated[str | None, Query(description="only pairs of this task")] = None,
        cursor: Cursor = None,
        limit: Limit = 100,
    ) -> PairPage:
        """The pairs of the finished shards, in manifest order."""
        await components.status(job_id)
        query: dict[str, Any] = {"verdicts": verdict or [], "task": task, "cursor": cursor, "limit": limit}
        return await asyncio.to_thread(read_pairs, components.store, job_id, **query)

    @app.get("/v1/jobs/{job_id}/report", tags=["results"], responses=errors(409))
    async def get_report(job_id: JobId, components: ComponentsOf) -> JobReport:
        """The final status (the current one while the job runs) and what is needed to reproduce the run."""
        await components.status(job_id)
        return await make_report(components.jobs, components.store, job_id)


def _add_input_routes(app: FastAPI) -> None:
    @app.post(
        "/v1/uploads",
        status_code=201,
        tags=["inputs"],
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _UPLOAD}}}},
    )
    async def upload_images(request: Request, components: ComponentsOf) -> UploadReceipt:
        """Send a zip or images as multipart field ``files``; name the upload in a job's ``images``."""
        return await receive_upload(request, components.store, components.upload_limits)

    @app.get("/v1/tasks", tags=["inputs"])
    async def list_tasks(components: ComponentsOf) -> TaskList:
        """The task profiles that jobs may name."""
        profiles = sorted(components.profiles.values(), key=lambda profile: profile.name)
        return TaskList(
            tasks=[
                TaskInfo(
                    name=profile.name,
                    metric=str(profile.metric),
                    answer_prompt=profile.prompts.answer,
                    max_answer_tokens=profile.max_answer_tokens,
                )
                for profile in profiles
            ]
        )


async def _sse(statuses: AsyncIterator[JobStatus | None]) -> AsyncIterator[str]:
    async for status in statuses:
        if status is None:
            yield write_comment("keep-alive")
        else:
            data = JobEvent(version=status.version, status=status).model_dump_json()
            yield write_event(data, event="status", id=str(status.version))
