"""What vLLM's worker process does for us beside its own work; named by ``--worker-extension-cls``.

Imported by vLLM, mixed into its worker class. An exception that leaves a worker's remote call ends the engine while its
server's ``/health`` goes on answering 200: so nothing is ever raised here.
"""

from __future__ import annotations

from typing import Any

EXTENSION = f"{__name__}.GuardedReload"


class GuardedReload:
    """Overwrites the weights from a folder. ``reload_weights`` is the worker's own."""

    reload_weights: Any

    def mpa_reload(self, folder: str) -> str:
        """An empty string, or what went wrong; then the weights may be half old, half new."""
        try:
            self.reload_weights(weights_path=folder)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return ""
