"""The memory of the GPUs that a process may use, as a Prometheus metric, whichever process uses it."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)


class GpuMemory(Collector):
    """``mpa_gpu_memory_bytes`` by GPU, in the order of CUDA_VISIBLE_DEVICES, and kind.

    ``total``, ``free`` and ``used`` (by all processes) come from the driver (NVML), which needs no GPU memory for this,
    or from torch if NVML is missing. ``allocated`` and ``reserved`` are what torch holds in this process, once it uses
    a GPU. On a machine without GPUs the metric is absent.
    """

    def collect(self) -> Iterator[GaugeMetricFamily]:
        told = self._of_the_driver()
        for gpu, kinds in _of_torch().items():
            told[gpu] = kinds | told.get(gpu, {})
        if not told:
            return
        family = GaugeMetricFamily(
            "mpa_gpu_memory_bytes",
            "Memory of a GPU: total, free, used by all processes, and allocated and reserved by torch in this process",
            labels=["gpu", "kind"],
        )
        for gpu, kinds in told.items():
            for kind, value in kinds.items():
                family.add_metric([str(gpu), kind], value)
        yield family

    def _of_the_driver(self) -> dict[int, dict[str, float]]:
        told: dict[int, dict[str, float]] = {}
        for gpu, handle in self._handles.items():
            try:
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
            except self._nvml.NVMLError as error:  # the GPU was lost, or it shares the machine's memory
                log.debug("The driver does not report the memory of GPU %s: %s", gpu, error)
                continue
            told[gpu] = {"total": memory.total, "free": memory.free, "used": memory.used}
        return told

    @cached_property
    def _nvml(self) -> Any:
        """NVIDIA's Python binding, initialised; None if the package or the driver is missing."""
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return None
        try:
            nvml.nvmlInit()
        except nvml.NVMLError:
            return None
        return nvml

    @cached_property
    def _handles(self) -> dict[int, Any]:
        """Handles of the GPUs that CUDA shows to this process, by CUDA's number."""
        if self._nvml is None:
            return {}
        said = os.environ.get("CUDA_VISIBLE_DEVICES")
        count = self._nvml.nvmlDeviceGetCount()
        names = [str(gpu) for gpu in range(count)] if said is None else [name.strip() for name in said.split(",")]
        handles = {}
        for gpu, name in enumerate(names):
            try:
                handles[gpu] = (
                    self._nvml.nvmlDeviceGetHandleByIndex(int(name))
                    if name.isdecimal()
                    else self._nvml.nvmlDeviceGetHandleByUUID(name)
                )
            except self._nvml.NVMLError:  # such as "-1", or "" for none: CUDA hides it and all that follow
                break
        return handles


def _of_torch() -> dict[int, dict[str, float]]:
    """Does not import torch: a process that has not loaded it has nothing to report."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_initialized():
        return {}
    told = {}
    for gpu in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(gpu)
        told[gpu] = {
            "allocated": float(torch.cuda.memory_allocated(gpu)),
            "reserved": float(torch.cuda.memory_reserved(gpu)),
            "free": float(free),
            "total": float(total),
            "used": float(total - free),
        }
    return told
