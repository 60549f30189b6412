"""A check looks at one thing within a time limit. A check that fails or takes too long gives a finding, too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from shared.concurrency import run_all
from shared.contracts import Finding, FindingState
from shared.errors import MPAError

T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """``run`` returns findings; ``fix`` is what to do if it fails or takes longer than ``seconds``."""

    name: str
    run: Callable[[], Awaitable[Sequence[Finding]]]
    fix: str
    seconds: float = 10.0


async def examine(checks: Sequence[Check]) -> list[Finding]:
    """Run all checks at the same time; returns their findings in the order of the checks."""
    found = await run_all(*(_guarded(check) for check in checks))
    return [finding for findings in found for finding in findings]


def ok(check: str, found: str) -> Finding:
    return Finding(check=check, state=FindingState.OK, found=found)


def warning(check: str, found: str, fix: str) -> Finding:
    return Finding(check=check, state=FindingState.WARNING, found=found, fix=fix)


def broken(check: str, found: str, fix: str) -> Finding:
    return Finding(check=check, state=FindingState.BROKEN, found=found, fix=fix)


def skipped(check: str, found: str) -> Finding:
    return Finding(check=check, state=FindingState.SKIPPED, found=found)


async def in_thread(call: Callable[[], T]) -> T:
    """Run a blocking call on a thread that the exit does not wait for: a hung disk must not hang the command."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        try:
            outcome: tuple[T | None, BaseException | None] = (call(), None)
        except Exception as error:
            outcome = (None, error)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=work, daemon=True).start()
    return await answer


async def _guarded(check: Check) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(check.seconds):
            return await check.run()
    except TimeoutError:
        return [broken(check.name, f"no answer within {check.seconds:g} s", check.fix)]
    except MPAError as error:
        return [broken(check.name, error.detail, check.fix)]
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        return [broken(check.name, f"{type(error).__name__}: {words}", check.fix)]
