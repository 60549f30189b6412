"""Which errors say that a disk or a file system is in trouble, and what to do about it."""

from __future__ import annotations

import errno
import os

from shared.errors import StorageUnavailable

ABSENT = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
"""These concern what was asked for: it is missing, or in the way."""
OF_A_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE})
"""No network answers with these: they come from a disk of this machine."""
_UNREADABLE = OF_A_DISK | {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV}
_ABOUT_THE_NAME = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.ENOTEMPTY})
_ACCESS = "refuses access: let the user that this process runs as read and write there"
_WORDS = {
    errno.ENOSPC: "is full: free some space, or enlarge it",
    errno.EDQUOT: "has used up its quota: free some space, or raise the quota",
    errno.EFBIG: "takes no file of this size: raise the limit (ulimit -f), or use another file system",
    errno.EROFS: "is read-only: mount it so that it can be written",
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.EMFILE: "cannot be used, because this process has too many open files: raise its limit (ulimit -n)",
    errno.ENFILE: "cannot be used, because this machine has too many open files: raise fs.file-max",
}
_OTHERWISE = "does not answer as it should: check the disk, and that it is mounted"
# Libraries in Rust and C++ report only the system's words, in errors of their own.
_SIGNS = (*(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)),)
_TORCH_CANNOT_WRITE = "PytorchStreamWriter failed writing"


def is_trouble(error: OSError) -> bool:
    """Whether the storage that was asked is at fault. False if the error concerns the name, or the data."""
    # Libraries that read damaged files raise an OSError without a number.
    return not isinstance(error, ABSENT) and error.errno is not None and error.errno not in _ABOUT_THE_NAME


def in_words(error: OSError) -> str:
    """A predicate for what is in trouble: ``is full: free some space …``, with the system's own words."""
    return f"{_WORDS.get(error.errno or 0, _OTHERWISE)} ({error})"


def disk_trouble(error: BaseException) -> StorageUnavailable | None:
    """``error`` as the trouble of a disk, if it is, or comes from, one; for code that uses files of any kind.

    Sees through the errors in which libraries wrap those of the system.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, StorageUnavailable):
            return found
        if isinstance(found, OSError) and found.errno in _UNREADABLE:
            return StorageUnavailable(f"The disk {in_words(found)}.")
        found = found.__cause__ or found.__context__
    if tells(str(error)):
        return StorageUnavailable(f"The disk is in trouble: free some space on it, or mount it again ({error}).")
    return None


def tells(text: str) -> bool:
    """Whether ``text``, what a library or a process has said, tells of a disk in trouble."""
    return any(sign in text for sign in _SIGNS) or _TORCH_CANNOT_WRITE in text
