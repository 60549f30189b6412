"""Which errors are trouble of a disk, and which concern what was asked for."""

from __future__ import annotations

import errno
import os

import pytest

from shared.errors import BadCheckpoint, NotFound, StorageUnavailable
from shared.store.trouble import disk_trouble, in_words, is_trouble, tells


@pytest.mark.parametrize(
    "number",
    [
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.ESTALE,
        errno.EACCES,
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
        errno.EMFILE,
        errno.ENODEV,
    ],
)
def test_these_are_trouble_of_the_storage(number: int) -> None:
    error = OSError(number, os.strerror(number), "/store/x")
    assert is_trouble(error)
    assert os.strerror(number) in in_words(error)


@pytest.mark.parametrize(
    "number", [errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP]
)
def test_these_concern_what_was_asked_for(number: int) -> None:
    assert not is_trouble(OSError(number, os.strerror(number), "/store/x"))


def test_a_damaged_file_is_not_trouble_of_the_storage() -> None:
    assert not is_trouble(OSError("Couldn't deserialize thrift: TProtocolException: Invalid data"))


def chained(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/d/x"), "The disk is full: free some space"),
        (OSError(errno.ESTALE, "Stale file handle"), "check the disk, and that it is mounted"),
        (OSError(errno.EMFILE, "Too many open files"), "too many open files: raise its limit"),
        (chained(BadCheckpoint("it cannot be read"), OSError(errno.EIO, "Input/output error")), "check the disk"),
        (chained(ValueError("x"), StorageUnavailable("The artifact store s3://b is away.")), "s3://b is away"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "free some space"),
        (RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/0"), "free some space"),
    ],
)
def test_trouble_of_a_disk_is_seen_through_what_wraps_it(error: Exception, words: str) -> None:
    found = disk_trouble(error)
    assert found is not None and words in found.detail


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        TimeoutError("timed out"),
        NotFound("There is no job x."),
        BadCheckpoint("model.safetensors ended in the middle"),
        chained(ValueError("x"), KeyError("y")),
    ],
)
def test_other_errors_are_not_trouble_of_a_disk(error: Exception) -> None:
    assert disk_trouble(error) is None
    assert not tells(str(error))
