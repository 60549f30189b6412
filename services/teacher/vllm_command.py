"""The command line and environment of the teacher's vLLM server."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping

from shared.settings import TeacherSettings
from shared.vllm.environment import CPU_FLAGS, LAUNCH, QUIET_FLAGS, vllm_environment

# When some models must follow a JSON schema, they write spaces between two fields until their tokens are used up.
JSON_FLAGS = ('--structured-outputs-config={"backend": "xgrammar", "disable_any_whitespace": true}',)


def vllm_command(settings: TeacherSettings, port: int, *, on_gpu: bool) -> list[str]:
    """The server's command line; ``MPA_TEACHER_VLLM_ARGS`` comes last, so that it takes precedence.

    On a GPU the context length is the model's own unless the settings name one, because images take more of a real
    model's tokens than the 1,024 that suit a small CPU.
    """
    command = [
        settings.teacher_vllm_python or sys.executable,
        *LAUNCH,
        f"--model={settings.teacher_model}",
        f"--served-model-name={settings.teacher_name}",
        "--host=127.0.0.1",
        f"--port={port}",
        *QUIET_FLAGS,
        *JSON_FLAGS,
    ]
    if settings.teacher_dtype != "auto" or not on_gpu:
        command.append(f"--dtype={'float32' if settings.teacher_dtype == 'auto' else settings.teacher_dtype}")
    if not on_gpu or "teacher_max_model_len" in settings.model_fields_set:
        command.append(f"--max-model-len={settings.teacher_max_model_len}")
    if not on_gpu:
        command += CPU_FLAGS
    if settings.trust_remote_code:
        command.append("--trust-remote-code")
    return command + shlex.split(settings.teacher_vllm_args)


def teacher_environment(settings: TeacherSettings, base: Mapping[str, str], *, on_gpu: bool) -> dict[str, str]:
    """``base`` with what vLLM needs for the teacher."""
    return vllm_environment(base, model=settings.teacher_model, torch_threads=settings.torch_threads, on_gpu=on_gpu)
