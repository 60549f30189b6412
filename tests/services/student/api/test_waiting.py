"""What becomes of work whose client hangs up."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx

from shared.settings import StudentSettings
from tests.services.student.small_replica import ask, batches, running


async def test_a_client_that_hangs_up_stops_its_work(settings: StudentSettings) -> None:
    """A stream is left after its first chunk, and so is a request that waits behind it, which is never begun."""
    alone = settings.model_copy(update={"student_max_batch": 1, "student_max_tokens": 900})
    async with running(alone) as (client, _), httpx.AsyncClient(base_url=client.base_url, timeout=60) as http:
        body = ask(stream=True, max_tokens=900).model_dump(mode="json", exclude_none=True)
        async with http.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = response.aiter_lines()
            await anext(lines)
            waiting = asyncio.create_task(client.chat(ask(max_tokens=900)))
            async with asyncio.timeout(30):
                while (await http.get("/readyz")).json()["details"]["queued"] < 1:
                    await asyncio.sleep(0.01)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
            async with asyncio.timeout(30):
                while 'status="499"' not in (await http.get("/metrics")).text:
                    await asyncio.sleep(0.01)
        await client.chat(ask())
        assert (await batches(http))[1] == 2, "the stream and the last request"
