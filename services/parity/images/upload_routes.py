"""Reads a multipart upload as a stream, so that one that is too large is refused early and never fills memory."""

from __future__ import annotations

import asyncio

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message

from services.parity.images.uploads import UploadLimits, store_upload
from shared.contracts import UploadReceipt
from shared.errors import InvalidInput, TooLarge
from shared.store import Store

# Bytes for multipart headers and the zip's directory, on top of the images.
OVERHEAD = 16 << 20


async def receive_upload(request: Request, store: Store, limits: UploadLimits) -> UploadReceipt:
    """Store the contents of the multipart field ``files``. Raises InvalidInput and TooLarge."""
    largest = limits.total + OVERHEAD
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > largest:
        raise _too_large(limits)
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > largest:
            raise _too_large(limits)
        return message

    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InvalidInput("Send the images as multipart/form-data in the field 'files' (curl -F files=@images.zip).")
    try:
        async with Request(request.scope, receive).form(max_files=limits.count, max_fields=16) as form:
            files = [part for part in form.getlist("files") if isinstance(part, UploadFile)]
            if not files:
                raise InvalidInput("The upload has no field 'files': send it with curl -F files=@images.zip.")
            named = [(part.filename or "file", part.file) for part in files]
            return await asyncio.to_thread(store_upload, named, store, limits)
    except HTTPException as error:  # what Starlette makes of its own MultiPartException
        raise InvalidInput(f"The multipart body cannot be read: {error.detail}") from error


def _too_large(limits: UploadLimits) -> TooLarge:
    return TooLarge(f"The upload is larger than the limit of {limits.total} bytes (MPA_MAX_UPLOAD): send it in parts.")
