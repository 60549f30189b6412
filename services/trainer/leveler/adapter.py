"""The LoRA adapter beside a checkpoint's merged weights: a server that holds its base loads it in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file

from shared.checkpoints.adapters import ADAPTER_CONFIG, ADAPTER_FOLDER, ADAPTER_WEIGHTS


def save_adapter(model: PeftModel, checkpoint: Path) -> None:
    """Write the adapter of ``model``, before it is merged, in PEFT's own format below ``checkpoint``."""
    folder = checkpoint / ADAPTER_FOLDER
    folder.mkdir()
    # PEFT's own save_pretrained may ask a hub whether the vocabulary grew; embeddings are not adapted here.
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config: Any = model.peft_config["default"]
    config.inference_mode = True
    config.save_pretrained(str(folder))
    written = json.loads((folder / ADAPTER_CONFIG).read_text())
    written["base_model_name_or_path"] = None  # a path on the training machine means nothing elsewhere
    (folder / ADAPTER_CONFIG).write_text(json.dumps(written, indent=2, sort_keys=True))
