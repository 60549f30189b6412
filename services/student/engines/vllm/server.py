"""The student's vLLM server: its command line, its routes that swap weights, and requests to it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from services.student.engines.vllm.wire import CHAT, raise_for, read_chunks
from services.student.engines.vllm.worker_extension import EXTENSION
from shared.errors import MPAError, Unavailable
from shared.settings import StudentSettings
from shared.sse import split_lines
from shared.vllm.environment import CPU_FLAGS, LAUNCH, QUIET_FLAGS, runs_on_gpu, vllm_environment
from shared.vllm.metrics import vllm_metrics
from shared.vllm.server import ModelServer, ServerTimes

log = logging.getLogger(__name__)
RELOAD_SECONDS = 300.0
DRAIN_SECONDS = 30.0
DRAIN_POLL = 0.02
RETRY_AFTER = 2.0
MAX_CONNECTIONS = 1024
SWAP_ROUTES = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
"""Turn on vLLM's routes that change weights and adapters. It listens on loopback only."""
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM allows for the largest rank."""
ADAPTER_SLOTS = 5
"""Slots for adapters in vLLM. Three are used. One is for an adapter that an abandoned request brings back. The last one
must stay empty: on a CPU, vLLM uses it for requests without an adapter in a batch with others.
"""


class VllmChild:
    """Requests to a supervised vLLM server. Each start loads ``folder()`` and then calls ``prepare``."""

    def __init__(
        self,
        settings: StudentSettings,
        folder: Callable[[], Path],
        prepare: Callable[[], Awaitable[str | None]] | None = None,
    ) -> None:
        on_gpu = runs_on_gpu(settings.student_vllm_python)
        environment = vllm_environment(
            os.environ, model=str(folder()), torch_threads=settings.torch_threads, on_gpu=on_gpu
        )
        self._timeout = settings.student_request_timeout.total_seconds()
        self.server = ModelServer(
            lambda port: vllm_command(settings, folder(), port, on_gpu=on_gpu),
            {**environment, **SWAP_ROUTES},
            settings.student_name,
            ServerTimes(ready=settings.student_ready_timeout.total_seconds(), probe=self._timeout / 2),
            prepare,
        )
        limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(self._timeout, connect=5.0), limits=limits, trust_env=False
        )

    async def close(self) -> None:
        await self.server.stop()
        await self._http.aclose()

    async def metrics(self) -> bytes:
        return await vllm_metrics(self.server, self._http)

    async def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """A whole reply. Raises InvalidInput for what vLLM refuses, Unavailable if vLLM dies meanwhile."""
        self._check_ready()
        try:
            response = await self._http.post(self.server.base_url + CHAT, json=body)
        except httpx.HTTPError as error:
            raise self._broken(error) from error
        self._judge(response.status_code, response.content)
        reply: dict[str, Any] = response.json()
        return reply

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The chunks of a streamed reply. Ending the iteration early hangs up, which ends vLLM's work."""
        self._check_ready()
        streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
        try:
            async with self._http.stream("POST", self.server.base_url + CHAT, json=streamed) as response:
                if response.status_code != 200:
                    self._judge(response.status_code, await response.aread())
                async for chunk in read_chunks(split_lines(response.aiter_bytes())):
                    self.server.saw_answer()
                    yield chunk
        except httpx.HTTPError as error:
            raise self._broken(error) from error

    async def why_not(self, folder: Path) -> str:
        """Why the weights in ``folder`` cannot replace the current ones; empty if they can."""
        self._check_ready()
        return await self._worker("mpa_why_not", str(folder))

    async def reload(self, folder: Path) -> str:
        """Overwrite the weights with those in ``folder`` and forget what was computed with the old ones.

        No request may run meanwhile. Raises Unavailable if nothing was touched. Otherwise returns what went wrong;
        empty if nothing did. After an error the weights may be half overwritten, or old answers may still be cached.
        """
        self._check_ready()
        # Abandoned requests may still run, and their blocks would be cached later.
        await self._reset_prefix_cache()
        try:
            if problem := await self._worker("mpa_reload", str(folder)):
                return problem
            # Without these, a known image kills the engine and a known prompt gets the old checkpoint's answer.
            await self._control("/reset_encoder_cache")
            await self._reset_prefix_cache()
        except MPAError as error:
            self.server.saw_failure()
            return error.detail
        self.server.saw_answer()
        return ""

    async def why_not_adapter(self, folder: Path) -> str:
        """Why vLLM cannot serve the whole adapter in ``folder``; empty if it can."""
        return await self._worker("mpa_why_not_adapter", str(folder))

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Let requests name it as their model. Raises InvalidInput if vLLM refuses it."""
        await self._control("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})

    async def unload_adapter(self, name: str) -> None:
        """Stop new requests from naming it. It stays in memory. Raises InvalidInput if vLLM does not know it."""
        await self._control("/v1/unload_lora_adapter", {"lora_name": name})

    async def adapters(self) -> list[int]:
        """The numbers of the adapters in memory, in the order in which they were loaded."""
        body = {"method": "mpa_adapters", "timeout": RELOAD_SECONDS}
        return [int(number) for number in (await self._control("/collective_rpc", body))["results"][0]]

    async def forget_adapter(self, number: int) -> str:
        """Take it out of memory. Returns why that is not possible, if a request still uses it."""
        return await self._worker("mpa_forget_adapter", number)

    async def _worker(self, method: str, argument: str | int) -> str:
        """Call our ``method`` in vLLM's workers; returns what went wrong."""
        body = {"method": method, "args": [argument], "timeout": RELOAD_SECONDS}
        reply = await self._control("/collective_rpc", body)
        return "; ".join(dict.fromkeys(text for text in reply["results"] if text))

    async def _reset_prefix_cache(self) -> None:
        """Retry until vLLM does it. It refuses while a request holds a block. Raises Unavailable."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while (await self._control("/reset_prefix_cache")).get("success") is False:
            if time.monotonic() > deadline:
                raise Unavailable(f"vLLM was not idle within {DRAIN_SECONDS:.0f} s: retry.", retry_after=RETRY_AFTER)
            await asyncio.sleep(DRAIN_POLL)

    async def _control(self, path: str, json_body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            response = await self._http.post(self.server.base_url + path, json=json_body, timeout=RELOAD_SECONDS)
        except httpx.HTTPError as error:
            raise self._broken(error) from error
        self._judge(response.status_code, response.content)
        is_json = response.headers.get("content-type", "").startswith("application/json")
        content: dict[str, Any] = (json.loads(response.content) if is_json else None) or {}
        return content

    def _judge(self, status: int, content: bytes) -> None:
        if status >= 500:
            self.server.saw_failure()
        else:
            self.server.saw_answer()
        raise_for(status, content)

    def _check_ready(self) -> None:
        if not self.server.ready:
            raise Unavailable(self.server.reason, retry_after=RETRY_AFTER)

    def _broken(self, error: httpx.HTTPError) -> Unavailable:
        self.server.saw_failure()
        if isinstance(error, httpx.TimeoutException):
            return Unavailable(f"vLLM did not answer within {self._timeout:.0f} s: retry.", retry_after=RETRY_AFTER)
        return Unavailable(
            f"vLLM broke off this request ({type(error).__name__}); it is restarted if it died: ask again.",
            retry_after=RETRY_AFTER,
        )


def vllm_command(settings: StudentSettings, folder: Path, port: int, *, on_gpu: bool) -> list[str]:
    """The server's command line; ``MPA_STUDENT_VLLM_ARGS`` comes last, so that it takes precedence."""
    command = [
        settings.student_vllm_python or sys.executable,
        *LAUNCH,
        f"--model={folder}",
        f"--served-model-name={settings.student_name}",
        "--host=127.0.0.1",
        f"--port={port}",
        f"--dtype={settings.student_dtype}",
        f"--max-num-seqs={settings.student_max_batch}",
        f"--worker-extension-cls={EXTENSION}",
        f'--limit-mm-per-prompt={{"image": {settings.student_max_images}}}',
        "--mm-processor-cache-gb=0",  # with the cache, swaps caused occasional errors
        "--generation-config=vllm",
        *QUIET_FLAGS,
    ]
    if settings.student_vllm_lora:
        rank = next(rank for rank in LORA_RANKS if rank >= settings.student_vllm_lora_rank)
        command += ["--enable-lora", f"--max-lora-rank={rank}"]
        command += [f"--max-loras={ADAPTER_SLOTS}", f"--max-cpu-loras={ADAPTER_SLOTS}"]
    if settings.student_max_model_len is not None:
        command.append(f"--max-model-len={settings.student_max_model_len}")
    if not on_gpu:
        command += [flag for flag in CPU_FLAGS if not flag.startswith("--mm-processor-cache-gb")]
    if settings.trust_remote_code:
        command.append("--trust-remote-code")
    return command + shlex.split(settings.student_vllm_args)
