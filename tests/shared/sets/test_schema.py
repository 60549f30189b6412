"""The schema of a set: its columns are the fields of a row, and every pair has a name of its own."""

from __future__ import annotations

from dataclasses import fields

from shared.sets import SCHEMA, Row
from tests.shared.sets.rows import row


def test_the_columns_are_the_fields_of_a_row() -> None:
    assert SCHEMA.names == ["pair_id", *(field.name for field in fields(Row))]


def test_a_pair_of_a_later_round_has_another_name() -> None:
    assert row(3, slot=1).pair_id == "0000003.chart.1"
    assert row(3, slot=1, round=2).pair_id == "0000003.chart.1.r2"
