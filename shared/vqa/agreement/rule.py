"""What a task forgives when two answers are compared, besides their spelling."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AgreementRule:
    """``tolerance``: share of the larger value by which two measured values may differ, 0-1.

    ``optional_units``: whether a value without a unit agrees with the same value with one. ``any_order``: whether the
    items of a list may change places.
    """

    tolerance: float = 0.0
    optional_units: bool = False
    any_order: bool = False


AS_WRITTEN = AgreementRule()
OFF_A_CHART = AgreementRule(tolerance=0.05, optional_units=True)


def usual_rule(metric: str) -> AgreementRule:
    """The rule of a task that names none: values are read off a chart where the benchmark's metric forgives 5 %."""
    return OFF_A_CHART if metric == "relaxed" else AS_WRITTEN
