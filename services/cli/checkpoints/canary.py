"""`mpa canary`: serve a candidate beside the active version."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.checkpoints.render import canary_panel, swap_line
from services.cli.session import Exit, Json, ask_student, caller, fail, show
from shared.client import StudentClient
from shared.contracts import CanaryReport, CanaryRequest, CanaryRule

Reason = Annotated[str, typer.Option(help="Reason, for the record.")]
canary = typer.Typer(
    help="Send a share of the requests to a candidate, alongside the active version.", no_args_is_help=True
)


@canary.command()
def start(
    version: Annotated[str, typer.Argument(help="Checkpoint version.")],
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the requests, 0-1.")] = 0.05,
    compare: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Share of its greedy answers to compare, 0-1."),
    ] = 1.0,
    rule: Annotated[bool, typer.Option("--rule/--no-rule", help="Let the replicas abort it by the rule.")] = True,
    promote: Annotated[bool, typer.Option("--promote", help="Let the rule promote the candidate, too.")] = False,
    min_requests: Annotated[int, typer.Option(min=1, help="Answers of the candidate before the rule decides.")] = 200,
    min_seconds: Annotated[float, typer.Option(min=0.0, help="Earliest promotion, in seconds after the start.")] = 0.0,
    max_seconds: Annotated[float | None, typer.Option(help="Abort if undecided after so many seconds.")] = None,
    min_agreement: Annotated[float | None, typer.Option(help="Lowest share of equal answers, 0-1.")] = None,
    max_error_rate: Annotated[float, typer.Option(help="Highest share of failed answers, 0-1.")] = 0.01,
    max_latency_ratio: Annotated[
        float, typer.Option(help="Highest p95 latency, relative to the active version.")
    ] = 1.5,
    as_json: Json = False,
) -> None:
    """Start a canary, or change the share and rule of the running one."""
    if promote and not rule:
        fail("--promote needs the rule: drop --no-rule.", Exit.BAD_INPUT)

    async def call(client: StudentClient) -> CanaryReport:
        limits = CanaryRule(
            min_requests=min_requests,
            min_seconds=min_seconds,
            max_seconds=max_seconds,
            min_agreement=min_agreement,
            max_error_rate=max_error_rate,
            max_latency_ratio=max_latency_ratio,
            promote=promote,
        )
        request = CanaryRequest(
            version=version, share=share, compare=compare, rule=limits if rule else None, by=caller()
        )
        return await client.start_canary(request)

    show(ask_student(call), as_json, canary_panel)


@canary.command()
def status(as_json: Json = False) -> None:
    """Show the latest canary with its counts."""
    report = ask_student(StudentClient.rollout).canary
    if report is None:
        fail("there has been no canary yet: start one with `mpa canary start VERSION`.", Exit.NOT_FOUND)
    show(report, as_json, canary_panel)


@canary.command()
def promote(reason: Reason = "by call", as_json: Json = False) -> None:
    """Make the candidate the active version on all replicas."""
    show(ask_student(lambda client: client.promote_canary(caller(), reason)), as_json, swap_line)


@canary.command()
def abort(reason: Reason = "by call", as_json: Json = False) -> None:
    """End the canary: every request goes to the active version again."""
    show(ask_student(lambda client: client.abort_canary(caller(), reason)), as_json, canary_panel)
