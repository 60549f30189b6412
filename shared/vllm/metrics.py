"""The metrics of a supervised vLLM server."""

from __future__ import annotations

import logging

import httpx

from shared.vllm.server import ModelServer

METRICS_TIMEOUT = 2.0
OWN_METRICS = (b"vllm:", b"# HELP vllm:", b"# TYPE vllm:")

log = logging.getLogger(__name__)


async def vllm_metrics(server: ModelServer, http: httpx.AsyncClient) -> bytes:
    """Its metrics in Prometheus' text format, without those of its Python process. Empty while it is down."""
    if not server.ready:
        return b""
    try:
        response = await http.get(server.base_url + "/metrics", timeout=METRICS_TIMEOUT)
    except httpx.HTTPError as error:
        log.warning("The model server returned no metrics: %s", type(error).__name__)
        return b""
    lines = response.content.splitlines(keepends=True) if response.status_code == 200 else []
    return b"".join(line for line in lines if line.startswith(OWN_METRICS))
