"""Run `mpa doctor`, whole or some of its checks, and read what it found."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner, Result

from services.cli.doctor.deployment import ProbedService
from services.cli.doctor.diagnosis import CHECKS
from services.cli.main import app
from shared.contracts import Alive, Diagnosis, Finding, FindingState

BROKEN, WARNING, OK = FindingState.BROKEN, FindingState.WARNING, FindingState.OK


def mpa(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def only(*names: str) -> list[str]:
    """Options that skip all other checks."""
    return [part for name in CHECKS if name not in names for part in ("--skip", name)]


def findings(*names: str) -> dict[str, Finding]:
    """The findings of these checks; the exit code must match them."""
    result = mpa("--json", "--timeout", "3", *only(*names))
    found = Diagnosis.model_validate_json(result.stdout)
    broken = any(finding.state is BROKEN for finding in found.findings)
    assert (result.exit_code, found.healthy) == (int(broken), not broken)
    assert all(finding.fix for finding in found.findings if finding.state in (BROKEN, WARNING))
    return {finding.check: finding for finding in found.findings}


def one_finding(findings: list[Finding], check: str, state: FindingState) -> Finding:
    """The finding of this check, which is of this state and says what to do."""
    (found,) = [finding for finding in findings if finding.check == check]
    assert found.state is state
    assert bool(found.fix) == (state is not FindingState.OK)
    return found


def asked_service(name: str, **changes: Any) -> ProbedService:
    alive = Alive(service=name, release="1", schema_version=1)
    told: dict[str, Any] = {"alive": alive, "status": 200, "with_key": 200, "without_key": 200, **changes}
    return ProbedService(name, f"http://{name}.example:8100", told.pop("key", None), **told)
