"""vLLM's command line and environment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from services.teacher.vllm_command import teacher_environment, vllm_command
from shared.settings import TeacherSettings
from shared.vllm.environment import LAUNCH, runs_on_gpu


def test_cpu_flags_and_dtype() -> None:
    command = vllm_command(TeacherSettings(), 4711, on_gpu=False)
    assert command[:3] == [sys.executable, *LAUNCH]
    assert Path(LAUNCH[0]).is_file() and LAUNCH[1] == "vllm.entrypoints.openai.api_server"
    assert {"--dtype=float32", "--enforce-eager", "--block-size=32", "--port=4711", "--host=127.0.0.1"} <= set(command)
    assert "--max-model-len=1024" in command


def test_a_gpu_gets_the_models_own_dtype_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    command = vllm_command(TeacherSettings(), 1, on_gpu=True)
    assert not [a for a in command if a.startswith(("--dtype", "--max-model-len", "--enforce-eager", "--kv-cache"))]
    monkeypatch.setenv("MPA_TEACHER_MAX_MODEL_LEN", "8192")
    assert "--max-model-len=8192" in vllm_command(TeacherSettings(), 1, on_gpu=True)


def test_the_users_arguments_come_last_and_are_split_as_a_shell_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPA_TEACHER_VLLM_ARGS", "--max-num-seqs 4 --chat-template 'my file.jinja'")
    assert vllm_command(TeacherSettings(), 1, on_gpu=False)[-4:] == [
        "--max-num-seqs", "4", "--chat-template", "my file.jinja",
    ]  # fmt: skip


def test_remote_code_and_another_interpreter_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--trust-remote-code" not in vllm_command(TeacherSettings(), 1, on_gpu=False)
    monkeypatch.setenv("MPA_TRUST_REMOTE_CODE", "1")
    monkeypatch.setenv("MPA_TEACHER_VLLM_PYTHON", "/opt/vllm/bin/python")
    command = vllm_command(TeacherSettings(), 1, on_gpu=False)
    assert command[0] == "/opt/vllm/bin/python" and "--trust-remote-code" in command


def test_a_local_model_never_asks_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPA_TEACHER_MODEL", str(tmp_path))
    env = teacher_environment(TeacherSettings(), {"PATH": "/bin", "VLLM_API_KEY": "secret"}, on_gpu=False)
    assert env["HF_HUB_OFFLINE"] == "1" and env["PATH"] == "/bin" and env["VLLM_NO_USAGE_STATS"] == "1"
    assert "VLLM_API_KEY" not in env
    monkeypatch.setenv("MPA_TEACHER_MODEL", "Qwen/Qwen2-VL-7B-Instruct")
    assert "HF_HUB_OFFLINE" not in teacher_environment(TeacherSettings(), {}, on_gpu=True)


def test_a_gpu_is_found_by_its_device_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidiactl").touch()
    assert not runs_on_gpu("/opt/vllm/bin/python", tmp_path)
    (tmp_path / "nvidia0").touch()
    assert runs_on_gpu("/opt/vllm/bin/python", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not runs_on_gpu("/opt/vllm/bin/python", tmp_path)
