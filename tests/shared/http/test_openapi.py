"""What the services say about themselves is whole, so that clients can be generated from it."""

from __future__ import annotations

import pytest

from tests.described_services import NAMES, document, fields, operations


@pytest.mark.parametrize("name", NAMES)
def test_every_property_and_parameter_has_a_description(name: str) -> None:
    assert not [field for field, form in fields(name) if not form.get("description")]


@pytest.mark.parametrize("name", NAMES)
def test_every_body_has_an_example(name: str) -> None:
    schemas = document(name)["components"]["schemas"]
    for place, operation in operations(name):
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            schema = content["schema"]
            schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
            assert kind == "multipart/form-data" or schema["examples"], place


@pytest.mark.parametrize("name", NAMES)
def test_every_error_has_a_form_and_the_key_is_a_bearers(name: str) -> None:
    assert document(name)["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    for place, operation in operations(name):
        assert ("security" in operation) == ("/v1/" in place), place
        assert operation["responses"]["405"]["headers"]["Allow"]["required"], place
        for status, response in operation["responses"].items():
            if int(status) >= 400 and not (place == "GET /readyz" and status == "503"):
                forms = {"Problem": "application/problem+json", "OpenAIError": "application/json"}
                ((kind, content),) = response["content"].items()
                assert forms[content["schema"]["$ref"].rpartition("/")[2]] == kind, (place, status)
                assert content["example"], place


def test_what_fastapi_cannot_see_is_described() -> None:
    parity = dict(operations("parity"))
    spec = document("parity")["components"]["schemas"]["JobSpec-Input"]["properties"]["images"]
    assert [form.get("type", "one") for form in spec["anyOf"]] == ["array", "one"]
    assert "multipart/form-data" in parity["POST /v1/uploads"]["requestBody"]["content"]
    assert list(parity["GET /v1/jobs/{job_id}/events"]["responses"]["200"]["content"]) == ["text/event-stream"]
    for name in ("student", "teacher"):
        answer = dict(operations(name))["POST /v1/chat/completions"]["responses"]["200"]["content"]
        assert answer.keys() == {"application/json", "text/event-stream"}
