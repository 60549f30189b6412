"""The command line and environment of vLLM's server for this machine and model."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from shared.settings import TeacherSettings

KV_CACHE_BYTES = 128 * 1024 * 1024
CPU_FLAGS = (
    "--enforce-eager",
    "--block-size=32",
    "--mm-processor-cache-gb=0",
    f"--kv-cache-memory-bytes={KV_CACHE_BYTES}",
    "--distributed-executor-backend=uni",
    # A seeded request whose prefill is split kills the CPU engine ("CPU Generator does not use offset").
    "--no-enable-chunked-prefill",
)
# Held to a JSON schema, some models write spaces between two fields until their tokens are used up.
JSON_FLAGS = ('--structured-outputs-config={"backend": "xgrammar", "disable_any_whitespace": true}',)
QUIET_FLAGS = ("--disable-uvicorn-access-log",)
GPU_DEVICES = ("nvidia[0-9]*", "kfd", "dxg")


def vllm_command(settings: TeacherSettings, port: int, *, on_gpu: bool) -> list[str]:
    """The server's command line; ``MPA_TEACHER_VLLM_ARGS`` comes last, so that it wins.

    On a GPU the context length is the model's own unless the settings name one: images of real models take more than
    the 1,024 tokens that suit a small CPU.
    """
    command = [
        settings.teacher_vllm_python or sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
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


def vllm_environment(settings: TeacherSettings, base: Mapping[str, str], *, on_gpu: bool) -> dict[str, str]:
    """``base`` with what vLLM needs. A local model folder must never make it ask a hub."""
    env = {**base, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    env.pop("VLLM_API_KEY", None)  # our app asks for the key; its child listens on loopback only
    # Longer than our pool keeps idle connections: else the server closes one in the moment that a request takes it.
    env.setdefault("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "75")
    if Path(settings.teacher_model).is_dir():
        env["HF_HUB_OFFLINE"] = "1"
    if not on_gpu:
        # Without dynamo the first request with logprobs need not compile a kernel, which takes g++ and half a minute.
        env |= {"TORCHDYNAMO_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
        # With one worker, a process of its own for it only spins: 15 ms of CPU a request without it, 25 ms with it.
        # vLLM
        # turns the executor back to multiprocessing where this variable is exactly "1", its default; "01" means the
        # same.
        env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "01"
        env.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # other processes share the cores
        env.setdefault("OMP_NUM_THREADS", str(settings.torch_threads))
    return env


def runs_on_gpu(settings: TeacherSettings, devices: Path = Path("/dev")) -> bool:
    """Whether vLLM will use a GPU, found without importing torch, which would take seconds and memory."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return False
    if not settings.teacher_vllm_python and _cpu_build_is_installed():
        return False
    return any(True for pattern in GPU_DEVICES for _ in devices.glob(pattern))


def _cpu_build_is_installed() -> bool:
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
