"""Contracts refuse fields that they do not know."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from tests.shared.http.small_app import Body


def test_contract_models_refuse_unknown_fields() -> None:
    assert issubclass(Body, BaseModel)
    with pytest.raises(ValueError, match="extra"):
        Body.model_validate({"count": 1, "x": 2})
