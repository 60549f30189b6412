"""A check that fails in itself is a finding like any other."""

from __future__ import annotations

import asyncio
import threading

from services.cli.doctor.checks import Check, examine, in_thread, ok
from shared.contracts import Finding
from tests.services.cli.doctor.running_doctor import (
    BROKEN,
    OK,
)


async def test_a_check_that_breaks_or_hangs_is_a_finding() -> None:
    async def breaks() -> list[Finding]:
        raise ZeroDivisionError("by zero")

    async def hangs() -> list[Finding]:
        return await in_thread(lambda: threading.Event().wait())  # type: ignore[return-value]

    async def works() -> list[Finding]:
        await asyncio.sleep(0)
        return [ok("c", "well")]

    checks = [Check("a", breaks, "do a"), Check("b", hangs, "do b", 0.05), Check("c", works, "do c")]
    found = await examine(checks)
    assert [(one.check, one.state) for one in found] == [("a", BROKEN), ("b", BROKEN), ("c", OK)]
    assert "ZeroDivisionError" in found[0].found and "0.05 s" in found[1].found and found[1].fix == "do b"
