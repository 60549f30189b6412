"""Where a checkpoint keeps its LoRA adapter, and what its files say, without torch."""

from __future__ import annotations

import json
from pathlib import Path

from shared.contracts import CardAdapter

ADAPTER_FOLDER = "adapter"
ADAPTER_CONFIG = "adapter_config.json"
MERGE_ADAPTER = "It holds a LoRA adapter: merge it into its base (merge_and_unload), and give the folder of the result."
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def describe_adapter(checkpoint: Path, base: str | None) -> CardAdapter | None:
    """The card's entry about the adapter in ``checkpoint``, trained on version ``base``; None if there is none."""
    path = checkpoint / ADAPTER_FOLDER / ADAPTER_CONFIG
    if base is None or not path.is_file():
        return None
    config = json.loads(path.read_text())
    ranks = [config["r"], *(config.get("rank_pattern") or {}).values()]
    return CardAdapter(base=base, rank=max(int(rank) for rank in ranks))
