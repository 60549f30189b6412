"""The job API of the parity service."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from shared.client.base import HttpClient, upstream_error
from shared.contracts import JobList, JobReport, JobSpec, JobStatus, PairPage, TaskList, UploadReceipt
from shared.sse import read_events, split_lines


class ParityClient(HttpClient):
    """The job API."""

    async def submit(self, spec: JobSpec | dict[str, Any], idempotency_key: str | None = None) -> JobStatus:
        body = spec.model_dump(mode="json") if isinstance(spec, JobSpec) else spec
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return await self._call(JobStatus, "POST", "/v1/jobs", json=body, headers=headers)

    async def job(self, job_id: str, wait: float | None = None, version: int | None = None) -> JobStatus:
        """The status; with ``wait`` the call returns when the version is no longer ``version``, or after ``wait``
        seconds.
        """
        params = {} if wait is None else {"wait": wait}
        headers = {} if version is None else {"If-None-Match": f'"{version}"'}
        timeout = (wait or 0) + 30
        response = await self._send("GET", f"/v1/jobs/{job_id}", params=params, headers=headers, timeout=timeout)
        if response.status_code == 304:
            return await self.job(job_id)
        return self._parse(JobStatus, response)

    async def jobs(self, cursor: str | None = None, limit: int = 50) -> JobList:
        return await self._call(JobList, "GET", "/v1/jobs", params=_given(cursor=cursor, limit=limit))

    async def pairs(
        self,
        job_id: str,
        *,
        verdict: str | None = None,
        task: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> PairPage:
        params = _given(verdict=verdict, task=task, cursor=cursor, limit=limit)
        return await self._call(PairPage, "GET", f"/v1/jobs/{job_id}/pairs", params=params)

    async def cancel(self, job_id: str) -> JobStatus:
        return await self._call(JobStatus, "POST", f"/v1/jobs/{job_id}/cancel")

    async def retry(self, job_id: str, verdicts: Sequence[str] = ()) -> JobStatus:
        """``verdicts``: make only the pairs with one of these again."""
        return await self._call(JobStatus, "POST", f"/v1/jobs/{job_id}/retry", params={"verdict": list(verdicts)})

    async def report(self, job_id: str) -> JobReport:
        return await self._call(JobReport, "GET", f"/v1/jobs/{job_id}/report")

    async def tasks(self) -> TaskList:
        return await self._call(TaskList, "GET", "/v1/tasks")

    async def upload(self, path: Path, timeout: float = 600.0) -> UploadReceipt:
        """Upload a zip, or one image."""
        with path.open("rb") as file:
            files = {"files": (path.name, file)}
            return await self._call(UploadReceipt, "POST", "/v1/uploads", files=files, timeout=timeout)

    async def events(self, job_id: str) -> AsyncIterator[JobStatus]:
        """Statuses as they change, until the job is final."""
        async with self._http.stream("GET", f"/v1/jobs/{job_id}/events", timeout=None) as response:
            if response.status_code >= 400:
                await response.aread()
                raise upstream_error(response)
            async for data in read_events(split_lines(response.aiter_bytes())):
                yield JobStatus.model_validate(json.loads(data)["status"], extra="ignore")


def _given(**params: Any) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}
