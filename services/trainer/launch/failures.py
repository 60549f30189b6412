"""Why a training process ended, in words that say what to do."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Sequence

from services.trainer.errors import TrainingCrashed, can_be_retried
from services.trainer.run_config import Failure
from shared.errors import InvalidInput, MPAError, StorageUnavailable, Unavailable
from shared.store.trouble import disk_trouble, tells

MESSAGE_CHARACTERS = 600
TAIL_CHARACTERS = 1500
LESS_MEMORY = {
    "train": (
        "lower train.batch_size (and raise train.gradient_accumulation by the same factor), set "
        "train.gradient_checkpointing, or set train.method to lora (`python -m services.trainer.estimate` shows what "
        "fits)"
    ),
    "evaluate": "lower MPA_EVAL_BATCH_SIZE",
}
_GPU_MEMORY = ("CUDA out of memory", "HIP out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_HOST_MEMORY = ("can't allocate memory", "Cannot allocate memory")
_FULL_DISK = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
_LOST_PEERS = ("NCCL", "Gloo", "gloo", "Connection closed by peer", "Connection reset by peer")
_LAUNCHER_SAW = re.compile(r"Signal (\d+) \(SIG[A-Z]+\) received by PID")


def failure_of(error: Exception, phase: str) -> Failure:
    """What the process of step ``phase`` reports about the error that ended it."""
    storage = disk_trouble(error) is not None
    if isinstance(error, MPAError):
        return Failure(error.detail, final=not storage and not can_be_retried(error), storage=storage)
    message = " ".join(str(error).split())[:MESSAGE_CHARACTERS]
    named = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return Failure(f"Step '{phase}' failed: {_what_to_do(error, phase)} ({named})", final=False, storage=storage)


def error_of(failure: Failure | None, phase: str, code: int, last_lines: Sequence[str]) -> MPAError:
    """The error for a process that ended with ``code`` (negative: by that signal), and what it reported, if anything.

    ``last_lines``: the end of its output.
    """
    tail = "\n".join(last_lines)[-TAIL_CHARACTERS:]
    killed = _killed_under_launcher(tail)
    # The others report that they lost the killed process, which is not the reason.
    if failure is not None and (failure.final or killed is None):
        if failure.storage:
            return StorageUnavailable(failure.detail)
        return InvalidInput(failure.detail) if failure.final else Unavailable(failure.detail)
    if killed is None and code > 0 and tells(tail):
        # On a full disk the reason itself cannot be written.
        return StorageUnavailable(f"The disk of step '{phase}' is in trouble. Its last lines were:\n{tail}")
    signum = -code if code < 0 else killed
    if signum is None:
        what = f"exited with code {code} and left no error report"
    else:
        what = f"was killed by signal {signum} ({signal.Signals(signum).name}){_by_whom(signum, phase)}"
    said = f"Its last lines were:\n{tail}" if tail else "It wrote nothing."
    return TrainingCrashed(f"The process of step '{phase}' {what}. {said}")


def _what_to_do(error: Exception, phase: str) -> str:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    words = str(error)
    if "OutOfMemoryError" in kinds or any(sign in words for sign in _GPU_MEMORY):
        return f"the GPU ran out of memory: {LESS_MEMORY[phase]}, or use a GPU with more memory."
    if isinstance(error, MemoryError) or any(sign in words for sign in _HOST_MEMORY):
        return f"the machine ran out of memory: {LESS_MEMORY[phase]}, or give the trainer more memory."
    if disk_trouble(error) is not None:
        if any(sign in words for sign in _FULL_DISK):
            return "the disk is full: free some space below MPA_DATA_DIR and MPA_STORE, or use a larger disk."
        return "a disk is in trouble: check those of MPA_DATA_DIR and MPA_STORE, and that they can be written."
    if "DistError" in kinds or any(sign in words for sign in _LOST_PEERS):
        return (
            "the processes of the training lost each other. Usually one of them ended first: look for its error in the "
            "trainers' logs. If there is none, check the network between the machines and set NCCL_DEBUG=INFO."
        )
    return "this error is unexpected. Its traceback is in the trainer's log; please report it if it happens again."


def _killed_under_launcher(tail: str) -> int | None:
    """The signal that killed one of a launcher's processes. The launcher itself ends the others with SIGTERM."""
    found = (int(number) for number in _LAUNCHER_SAW.findall(tail))
    return next((signum for signum in found if signum != signal.SIGTERM), None)


def _by_whom(signum: int, phase: str) -> str:
    if signum == signal.SIGKILL:
        return (
            ", most likely by the kernel because the machine or the container ran out of memory: "
            f"{LESS_MEMORY[phase]}, or give the trainer more memory"
        )
    if signum in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE):
        return ": native code crashed, for example a GPU driver or a kernel of torch"
    return ""
