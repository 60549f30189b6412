"""An upload is read as a stream: one that is too large is refused early, whatever its headers say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request

from services.parity.images import upload_routes
from services.parity.images.upload_routes import receive_upload
from services.parity.images.uploads import UploadLimits
from shared.contracts import UploadReceipt
from shared.http.errors import add_error_handlers, problem_response
from shared.store import Store
from tests.services.parity.conftest import png

LIMITS = UploadLimits(total=20_000, image=10_000, count=3)
BOUNDARY = {"content-type": "multipart/form-data; boundary=b"}


@pytest.fixture
async def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr(upload_routes, "OVERHEAD", 1_000)
    app, store = FastAPI(), Store(tmp_path.as_uri())

    @app.post("/")
    async def upload(request: Request) -> UploadReceipt:
        return await receive_upload(request, store, LIMITS)

    add_error_handlers(app, lambda request, error: problem_response(error))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://parity") as client:
        yield client


async def test_the_field_files_is_stored(client: httpx.AsyncClient) -> None:
    files = [("files", (f"{number}.png", png(number))) for number in range(2)]
    receipt = UploadReceipt.model_validate_json((await client.post("/", files=files)).content)
    assert (receipt.images, receipt.bytes) == (2, sum(len(png(number)) for number in range(2)))


async def test_a_length_over_the_limit_is_refused_before_the_body_is_read(client: httpx.AsyncClient) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    headers = BOUNDARY | {"content-length": "21001"}
    answer = await client.post("/", content=never(), headers=headers)
    assert (answer.status_code, "20000 bytes (MPA_MAX_UPLOAD)" in answer.json()["detail"]) == (413, True)


async def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        while sent < 10_000_000:
            sent += 1_000
            yield bytes(1_000)

    answer = await client.post("/", content=endless(), headers=BOUNDARY)
    assert answer.status_code == 413
    assert sent < 25_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"json": {}}, "Send the images as multipart/form-data in the field 'files'"),
        ({"content": b""}, "Send the images as multipart/form-data in the field 'files'"),
        ({"files": {"images": ("a.png", b"x")}}, "The upload has no field 'files'"),
        ({"data": {"files": "a.png"}, "files": {"other": b"x"}}, "The upload has no field 'files'"),
        ({"content": b"no part", "headers": {"content-type": "multipart/form-data"}}, "cannot be read"),
        ({"files": [("files", (f"{n}.png", b"x")) for n in range(4)]}, "cannot be read: Too many files"),
    ],
)
async def test_what_cannot_be_an_upload_is_refused_with_what_to_do(
    client: httpx.AsyncClient, arguments: dict[str, object], words: str
) -> None:
    answer = await client.post("/", **arguments)  # type: ignore[arg-type]
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
