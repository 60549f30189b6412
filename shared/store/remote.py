"""Object stores behind fsspec: opened without caches of listings, bounded in time, and with errors that say what to do.

Credentials and the endpoint come from botocore's chain: ``AWS_*`` variables, a profile, web identity, the instance.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import fsspec

from shared.errors import StorageUnavailable
from shared.store.trouble import ABSENT, OF_A_DISK, in_words

CONNECT_SECONDS, READ_SECONDS = 5, 60
HTTP_ATTEMPTS = 4
"""What botocore tries for one request: connections that break, 5xx, throttling."""
CALL_ATTEMPTS = 2
"""What s3fs tries on top, for throttling and for errors that come while a body is read."""
CREATE_ATTEMPTS = 5
_OUTAGES = {
    "aiohttp": ["ClientError"],  # a body that breaks off
    "botocore.exceptions": ["BotoCoreError", "ClientError", "HTTPClientError"],
    "botocore.parsers": ["ResponseParserError"],
}
_NO_CREDENTIALS = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"}
)


def open_filesystem(url: str) -> tuple[Any, str]:
    """The file system of ``url`` and the path in it. No request is sent yet."""
    if not url.startswith(("s3://", "s3a://")):
        fs, path = fsspec.core.url_to_fs(url)
        return fs, str(path)
    config = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "retries": {"mode": "standard", "total_max_attempts": HTTP_ATTEMPTS},
    }
    # The cache of instances ignores the environment that their credentials come from.
    fs, path = fsspec.core.url_to_fs(
        url, use_listings_cache=False, skip_instance_cache=True, default_fill_cache=False, config_kwargs=config
    )
    fs.retries = CALL_ATTEMPTS
    return fs, str(path)


@contextmanager
def typed_errors(url: str) -> Iterator[None]:
    """Turn outages and refusals into StorageUnavailable; errors about missing or existing objects pass unchanged."""
    try:
        yield
    except ABSENT as error:
        if error.filename is not None:  # only local files have one, so this does not concern the object
            raise StorageUnavailable(
                f"The artifact store {url} cannot be used, because a file of this machine is missing ({error}): if "
                "it is the token of AWS_WEB_IDENTITY_TOKEN_FILE, mount it."
            ) from error
        if error_code(error) == "NoSuchBucket":
            raise StorageUnavailable(
                f"The bucket of the artifact store {url} does not exist: create it, or correct MPA_STORE."
            ) from error
        raise
    except PermissionError as error:
        if error.filename is not None:
            raise StorageUnavailable(f"The disk of this machine {in_words(error)}.") from error
        raise StorageUnavailable(
            f"The artifact store {url} refuses access ({error}): check the credentials and that they may get, put, "
            "list and delete there."
        ) from error
    except _outages() as error:
        if type(error) is OSError and error.errno is None and error.__cause__ is None:
            raise  # from a library that reads what was fetched, and found it damaged
        if isinstance(error, OSError) and error.errno in OF_A_DISK:
            raise StorageUnavailable(f"The disk of this machine {in_words(error)}.") from error
        if type(error).__name__ in _NO_CREDENTIALS:
            raise StorageUnavailable(
                f"There are no credentials for the artifact store {url} ({error}): set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE."
            ) from error
        raise StorageUnavailable(
            f"The artifact store {url} does not answer as it should ({type(error).__name__}: {error}): check "
            "MPA_STORE, AWS_ENDPOINT_URL, the credentials and the network."
        ) from error


def read_object(fs: Any, path: str, at_most: int | None) -> bytes:
    """The object's bytes, or its first ``at_most``."""
    data: bytes
    if at_most is None:
        data = fs.cat_file(path)
        return data
    try:
        data = fs.cat_file(path, start=0, end=at_most)
        return data
    except OSError as error:
        if error_code(error) == "InvalidRange":  # the object is empty
            return b""
        raise


def create_object(fs: Any, path: str, data: bytes) -> bool:
    """Put ``data`` unless ``path`` exists; returns whether this call did, as far as the store reported."""
    attempts = 0
    while True:
        attempts += 1
        try:
            fs.pipe_file(path, data, mode="create")
            return True
        except FileExistsError:
            return False
        except OSError as error:
            code = error_code(error)
            if code == "PreconditionFailed":
                return False
            # S3 gives this answer to all but one of several simultaneous creations, and that one may still fail.
            if code != "ConditionalRequestConflict" or attempts == CREATE_ATTEMPTS:
                raise


def error_code(error: BaseException) -> str:
    """S3's error code; empty if there is none."""
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _outages() -> tuple[type[Exception], ...]:
    """Looked up only after a failure: these packages are slow to import, and local stores need none of them."""
    found: list[type[Exception]] = [OSError]
    for module, names in _OUTAGES.items():
        with suppress(ImportError):
            found += [getattr(import_module(module), name) for name in names]
    return tuple(found)
