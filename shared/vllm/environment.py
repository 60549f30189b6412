"""The flags and environment variables that every vLLM server needs here, and whether it will run on a GPU."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path

MODULE = "vllm.entrypoints.openai.api_server"
LAUNCH = (str(Path(__file__).with_name("literal_server.py")), MODULE)
"""The interpreter's first arguments: vLLM's server, with tokenizers that read escapes."""
KV_CACHE_BYTES = 128 * 1024 * 1024
CPU_FLAGS = (
    "--enforce-eager",
    "--block-size=32",
    "--mm-processor-cache-gb=0",
    f"--kv-cache-memory-bytes={KV_CACHE_BYTES}",
    "--distributed-executor-backend=uni",
    # A seeded request with a split prefill kills the CPU engine ("CPU Generator does not use offset").
    "--no-enable-chunked-prefill",
)
QUIET_FLAGS = ("--disable-uvicorn-access-log",)
GPU_DEVICES = ("nvidia[0-9]*", "kfd", "dxg")


def vllm_environment(base: Mapping[str, str], *, model: str, torch_threads: int, on_gpu: bool) -> dict[str, str]:
    """``base`` with what vLLM needs. With a local model folder vLLM must never ask a hub."""
    env = {**base, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    env.pop("VLLM_API_KEY", None)  # our app checks the key; its child listens on loopback only
    # Longer than our pool keeps idle connections: otherwise the server could close one just as a request takes it.
    env.setdefault("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "75")
    if Path(model).is_dir():
        env["HF_HUB_OFFLINE"] = "1"
    if not on_gpu:
        # With dynamo the first request with logprobs compiles a kernel, which needs g++ and takes half a minute.
        env |= {"TORCHDYNAMO_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
        # A separate process for the only worker just spins: a request takes 15 ms of CPU without it, 25 ms with it.
        # If this variable is exactly "1", its default, vLLM switches the executor back to multiprocessing. "01" means
        # the same to the rest of vLLM.
        env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "01"
        env.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # other processes share the cores
        env.setdefault("OMP_NUM_THREADS", str(torch_threads))
    return env


def runs_on_gpu(vllm_python: str = "", devices: Path = Path("/dev")) -> bool:
    """Whether vLLM will use a GPU. This does not import torch, which would take seconds and memory.

    ``vllm_python``: the interpreter that has vLLM, if it is not the current one.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return False
    if not vllm_python and _cpu_build_is_installed():
        return False
    return any(True for pattern in GPU_DEVICES for _ in devices.glob(pattern))


def _cpu_build_is_installed() -> bool:
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
