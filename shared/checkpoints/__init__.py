"""Checkpoints: the registry, promotions, cards, file checks, adapters and canaries."""

from shared.checkpoints.cards import build_card
from shared.checkpoints.files import (
    CARD_NAME,
    checkpoint_files,
    read_card,
    verify_folder,
    verify_loadable,
)
from shared.checkpoints.registry import BASE_VERSION, SMOKE_TOKENS, CheckpointRegistry
from shared.checkpoints.weights import TensorInfo, describe_difference, read_tensor_table

__all__ = [
    "BASE_VERSION",
    "CARD_NAME",
    "SMOKE_TOKENS",
    "CheckpointRegistry",
    "TensorInfo",
    "build_card",
    "checkpoint_files",
    "describe_difference",
    "read_card",
    "read_tensor_table",
    "verify_folder",
    "verify_loadable",
]
