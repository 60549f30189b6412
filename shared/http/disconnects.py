"""Drop the work for a client that has hung up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from shared.errors import MPAError

T = TypeVar("T")


class ClientGone(MPAError):
    """No client reads this error; its status is for logs and metrics."""

    status, slug, title = 499, "client-gone", "The client closed the connection"


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``. If the client hangs up first, cancels the work and raises ClientGone.

    The request's body must have been read.
    """
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_hang_up(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone("The client closed the connection before the answer was ready.")
    finally:
        working.cancel()
        watching.cancel()


async def _hang_up(request: Request) -> None:
    """Returns when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
