"""Fault tests run on the same kind of real system as the end-to-end tests."""

from __future__ import annotations

from tests.e2e.conftest import data_dir, labelled, pile, system

__all__ = ["data_dir", "labelled", "pile", "system"]
