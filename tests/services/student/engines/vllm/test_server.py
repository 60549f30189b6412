"""The command line of the student's vLLM."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.student.engines.vllm.server import vllm_command
from shared.settings import StudentSettings


def command(**settings: object) -> list[str]:
    return vllm_command(StudentSettings.model_validate(settings), Path("/models/m"), 4711, on_gpu=False)


def test_lora_only_where_it_is_wanted() -> None:
    assert not [word for word in command() if "lora" in word]
    assert {"--enable-lora", "--max-lora-rank=16", "--max-loras=5", "--max-cpu-loras=5"} <= set(
        command(student_vllm_lora=True)
    )


@pytest.mark.parametrize(("rank", "vllms"), [(1, 1), (2, 8), (16, 16), (17, 32), (512, 512)])
def test_a_rank_that_vllm_has_not_becomes_the_next_larger_one(rank: int, vllms: int) -> None:
    found = command(student_vllm_lora=True, student_vllm_lora_rank=rank)
    assert f"--max-lora-rank={vllms}" in found


def test_the_users_arguments_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPA_STUDENT_VLLM_LORA", "true")
    monkeypatch.setenv("MPA_STUDENT_VLLM_LORA_RANK", "32")
    monkeypatch.setenv("MPA_STUDENT_VLLM_ARGS", "--max-loras 9")
    assert command()[-2:] == ["--max-loras", "9"] and "--max-lora-rank=32" in command()
