"""Why a training process ended, in words that say what to do."""

from __future__ import annotations

import errno
import os
import signal

import pytest
import torch

from services.trainer.errors import NothingTrained, TrainingCrashed, TrainingDiverged
from services.trainer.launch.failures import MESSAGE_CHARACTERS, TAIL_CHARACTERS, error_of, failure_of
from services.trainer.run_config import Failure
from shared.errors import BadCheckpoint, InvalidInput, NotFound, StorageUnavailable, Unavailable


@pytest.mark.parametrize("error", [TrainingDiverged("x"), NothingTrained("x"), BadCheckpoint("x"), InvalidInput("x")])
def test_an_error_of_the_input_is_final(error: Exception) -> None:
    assert failure_of(error, "train") == Failure("x", final=True)


@pytest.mark.parametrize("error", [Unavailable("x"), NotFound("x"), TrainingCrashed("x")])
def test_another_error_of_ours_is_tried_again(error: Exception) -> None:
    assert failure_of(error, "train") == Failure("x", final=False)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (torch.OutOfMemoryError("Tried to allocate 2 GiB"), "the GPU ran out of memory: lower train.batch_size"),
        (RuntimeError("CUDA error: out of memory"), "the GPU ran out of memory: lower train.batch_size"),
        (RuntimeError("HIP out of memory"), "the GPU ran out of memory: lower train.batch_size"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"), "the GPU ran out of memory"),
        (MemoryError(), "the machine ran out of memory: lower train.batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "the machine ran out of memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "the machine ran out of memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full: free some space below MPA_DATA_DIR"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
        (torch.distributed.DistNetworkError("timed out"), "the processes of the training lost each other"),
        (RuntimeError("Connection closed by peer [127.0.0.1]:4711"), "lost each other"),
        (KeyError("loss"), "this error is unexpected. Its traceback is in the trainer's log"),
    ],
    ids=repr,
)
def test_an_error_of_a_library_is_named_with_advice(error: Exception, advice: str) -> None:
    failure = failure_of(error, "train")
    assert failure.detail.startswith("Step 'train' failed: ")
    assert advice in failure.detail
    assert type(error).__name__ in failure.detail
    assert not failure.final


def test_an_evaluation_is_told_its_own_setting() -> None:
    assert "MPA_EVAL_BATCH_SIZE" in failure_of(torch.OutOfMemoryError("full"), "evaluate").detail


def test_a_long_message_is_shortened_to_one_line() -> None:
    detail = failure_of(RuntimeError("a\nb " * 1000), "train").detail
    assert "\n" not in detail
    assert len(detail) < MESSAGE_CHARACTERS + 300


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)),
        StorageUnavailable("The artifact store s3://b is away."),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file data/1"),
    ],
)
def test_trouble_of_a_disk_or_the_store_is_waited_out(error: Exception) -> None:
    failure = failure_of(error, "train")
    assert (failure.storage, failure.final) == (True, False)
    assert isinstance(error_of(failure, "train", 1, []), StorageUnavailable)


def test_a_checkpoint_that_cannot_be_read_because_of_the_disk_is_not_a_bad_one() -> None:
    error = BadCheckpoint("model.safetensors cannot be read")
    error.__cause__ = OSError(errno.EIO, "Input/output error")
    assert failure_of(error, "train") == Failure(error.detail, final=False, storage=True)


def test_a_full_disk_that_takes_no_report_is_known_by_the_last_lines() -> None:
    lines = ["Traceback (most recent call last):", "OSError: [Errno 28] No space left on device: '/data/failure.json'"]
    error = error_of(None, "train", 1, lines)
    assert isinstance(error, StorageUnavailable)
    assert "The disk of step 'train' is in trouble" in error.detail


def test_a_report_decides_between_final_and_retry() -> None:
    assert isinstance(error_of(Failure("bad base", final=True), "train", 1, []), InvalidInput)
    assert isinstance(error_of(Failure("busy", final=False), "train", 1, []), Unavailable)


def test_without_a_report_the_code_and_the_last_lines_are_shown() -> None:
    error = error_of(None, "evaluate", 3, ["old " * TAIL_CHARACTERS, "the last line"])
    assert isinstance(error, TrainingCrashed)
    assert "'evaluate' exited with code 3 and left no error report" in error.detail
    assert error.detail.endswith("the last line")
    assert len(error.detail) < TAIL_CHARACTERS + 200
    assert "It wrote nothing." in error_of(None, "train", 1, []).detail


@pytest.mark.parametrize(
    ("signum", "cause"),
    [
        (signal.SIGKILL, "most likely by the kernel because the machine or the container ran out of memory"),
        (signal.SIGSEGV, "native code crashed"),
        (signal.SIGABRT, "native code crashed"),
        (signal.SIGTERM, ""),
    ],
)
def test_a_signal_is_named_with_its_likely_cause(signum: signal.Signals, cause: str) -> None:
    detail = error_of(None, "train", -signum, []).detail
    assert f"was killed by signal {signum.value} ({signum.name})" in detail
    assert cause in detail


LAUNCHER = [
    "Sending process 12 closing signal SIGTERM",
    "exitcode: -15, Signal 15 (SIGTERM) received by PID 12",
    "exitcode: -9, Signal 9 (SIGKILL) received by PID 13",
]


def test_of_a_launchers_processes_the_killed_one_is_named_and_not_those_that_lost_it() -> None:
    lost = Failure("the processes of the training lost each other", final=False)
    error = error_of(lost, "train", 1, LAUNCHER)
    assert isinstance(error, TrainingCrashed)
    assert "was killed by signal 9 (SIGKILL)" in error.detail
    final = error_of(Failure("bad base", final=True), "train", 1, LAUNCHER)
    assert isinstance(final, InvalidInput), "what the input caused would come again"
    assert isinstance(error_of(lost, "train", 1, LAUNCHER[:2]), Unavailable), "the launcher ends the others itself"
