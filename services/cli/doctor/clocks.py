"""How far another machine's clock is from ours, as far as its answers show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

import httpx

from services.cli.doctor.checks import broken, ok
from shared.contracts import Finding

MOST_SKEW = 5.0


@dataclass(frozen=True)
class Reading:
    """A clock read from afar: between ``told`` and ``told + unit``, at some moment between ``sent`` and ``received``.

    All are seconds since the epoch; ``sent`` and ``received`` are by our clock.
    """

    told: float
    unit: float
    sent: float
    received: float

    @property
    def ahead(self) -> float:
        """By how many seconds the clock is ahead of ours at least; 0 if the time of the call explains the rest."""
        least, most = self.told - self.received, self.told + self.unit - self.sent
        return 0.0 if least <= 0 <= most else min(least, most, key=abs)


def nearest(readings: Iterable[Reading]) -> float | None:
    """The smallest difference that any reading allows: a busy server may send a time that it wrote seconds ago."""
    return min((reading.ahead for reading in readings), key=abs, default=None)


def read_date(response: httpx.Response, sent: float, received: float) -> Reading | None:
    """The Date header, which is cut to the second; None if there is none."""
    try:
        told: datetime | None = parsedate_to_datetime(response.headers["Date"])
    except (KeyError, ValueError):
        return None
    return Reading(told.timestamp(), 1.0, sent, received) if told else None


def skew(name: str, ahead: float) -> Finding:
    """A finding about a clock that is ``ahead`` seconds ahead of ours."""
    if abs(ahead) > MOST_SKEW:
        side = "ahead of" if ahead > 0 else "behind"
        return broken(
            name,
            f"{abs(ahead):.0f} s {side} this machine's",
            "Set the clocks of both machines with NTP (chrony, systemd-timesyncd): times in records and logs would "
            "not match, and object stores refuse requests signed with a time that is minutes off.",
        )
    return ok(name, f"within {max(1.0, abs(ahead)):.0f} s of ours")
