"""Typed errors: one base class, turned into problem+json by one handler (shared.http)."""

from __future__ import annotations

STORAGE_RETRY_AFTER = 5.0
"""Seconds after which a request that met a store in trouble is worth a retry."""


class MPAError(Exception):
    """Base of all errors that a user may see.

    ``detail`` names the input and says what is wrong and what to do about it. ``status`` is the HTTP status that the
    error maps to, and ``slug`` a stable machine-readable name (the last part of the problem's ``type``).
    ``retry_after`` is the number of seconds to wait, if a retry helps. ``param`` names the request field that is
    wrong, if it is a single one.
    """

    status: int = 500
    slug: str = "internal"
    title: str = "Internal error"

    def __init__(self, detail: str, *, retry_after: float | None = None, param: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.param = param


class InvalidInput(MPAError):
    status, slug, title = 422, "invalid-input", "The request cannot be processed as it is"


class Unauthorized(MPAError):
    status, slug, title = 401, "unauthorized", "A valid API key is required"


class Forbidden(MPAError):
    status, slug, title = 403, "forbidden", "Not allowed"


class NotFound(MPAError):
    status, slug, title = 404, "not-found", "Not found"


class Conflict(MPAError):
    status, slug, title = 409, "conflict", "The request conflicts with the present state"


class NewerSchema(MPAError):
    """A later release of MPA wrote it, in a format that this release cannot interpret safely."""

    status, slug, title = 409, "newer-schema", "Written by a later release"


class Damaged(MPAError, ValueError):
    """What is stored is not what was written: cut off, overwritten, lost in part. It stops its own job alone."""

    status, slug, title = 409, "damaged", "Stored data is damaged"


class TooLarge(MPAError):
    status, slug, title = 413, "too-large", "The input is larger than allowed"


class Busy(MPAError):
    status, slug, title = 429, "busy", "Too many requests"


class Unavailable(MPAError):
    """Worth a retry later; ``upstream_status`` is the HTTP status of the service behind it, None if it sent none."""

    status, slug, title = 503, "unavailable", "A needed part is not available right now"

    def __init__(self, detail: str, *, retry_after: float | None = None, upstream_status: int | None = None) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.upstream_status = upstream_status


class StorageUnavailable(Unavailable):
    """A disk or an object store is in trouble: full, read-only, away, or it does not answer.

    It says nothing about what was asked for. ``detail`` begins with what is in trouble.
    """

    def __init__(self, detail: str, *, retry_after: float = STORAGE_RETRY_AFTER) -> None:
        super().__init__(detail, retry_after=retry_after)

    @property
    def waiting_for(self) -> str:
        """What work waits for that goes on when the trouble is over."""
        return self.detail[:1].lower() + self.detail[1:]


class UpstreamError(MPAError):
    """Another service answered with an error, or not at all; ``upstream_status`` is its HTTP status, if it sent one."""

    status, slug, title = 502, "upstream", "Another service failed"

    def __init__(self, detail: str, *, upstream_status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.upstream_status = upstream_status


class BadCheckpoint(MPAError):
    """A checkpoint that must not serve: missing files, a wrong digest, names, shapes or dtypes, or no usable answer."""

    status, slug, title = 422, "bad-checkpoint", "The checkpoint cannot be used"


class LeaseLost(MPAError):
    """The lease's token is no longer the current one: somebody else owns the work, so this write must not happen."""

    status, slug, title = 409, "lease-lost", "The lease was lost"
