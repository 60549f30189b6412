"""Methods that we add to vLLM's worker process, named by ``--worker-extension-cls``.

vLLM imports this and mixes it into its worker class. An exception that leaves a worker's remote call ends the engine,
while its server's ``/health`` still answers 200. So these methods never raise: they return what went wrong in words, or
an empty string.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.student.engines.vllm.adapter_check import why_not_adaptable
from shared.checkpoints.weights import TensorInfo, describe_difference, read_tensor_table

EXTENSION = f"{__name__}.GuardedReload"


class GuardedReload:
    """Overwrites the weights from a folder and lists LoRA adapters.

    ``reload_weights``, ``list_loras``, ``remove_lora`` and ``model_runner`` are the worker's own.
    """

    reload_weights: Any
    list_loras: Any
    remove_lora: Any
    model_runner: Any
    _mpa_tensors: dict[str, TensorInfo] | None = None

    def mpa_why_not(self, folder: str) -> str:
        """Why the weights in ``folder`` cannot replace the current ones. Changes nothing."""
        return _in_words(lambda: self._mpa_difference(Path(folder)))

    def mpa_reload(self, folder: str) -> str:
        """Overwrite the weights. Unless it returns an empty string, the weights may be half old, half new."""
        return self.mpa_why_not(folder) or _in_words(lambda: self.reload_weights(weights_path=folder))

    def mpa_why_not_adapter(self, folder: str) -> str:
        """Why vLLM would refuse the adapter in ``folder``, or silently leave part of it out. Changes nothing."""
        return _in_words(lambda: why_not_adaptable(self.model_runner, Path(folder)))

    def mpa_adapters(self) -> list[int]:
        """Numbers of the adapters in memory."""
        return sorted(self.list_loras())

    def mpa_forget_adapter(self, number: int) -> str:
        """Take an adapter out of memory, unless a request is being answered with it."""
        return _in_words(lambda: self._mpa_forget(number))

    def _mpa_difference(self, folder: Path) -> str | None:
        if self._mpa_tensors is None:  # vLLM started with this folder, and all later ones have equal tensors
            self._mpa_tensors = read_tensor_table(Path(self.model_runner.model_config.model))
        return describe_difference(self._mpa_tensors, read_tensor_table(folder))

    def _mpa_forget(self, number: int) -> str | None:
        if number in self.model_runner.input_batch.lora_id_to_lora_request:
            return f"adapter {number} is in use"
        self.remove_lora(number)
        return None


def _in_words(work: Callable[[], str | None]) -> str:
    try:
        return work() or ""
    except Exception as error:
        return getattr(error, "detail", None) or f"{type(error).__name__}: {error}"
