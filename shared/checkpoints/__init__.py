"""Checkpoints: the registry with its active pointer, cards, file checks, adapters and canaries."""

from shared.checkpoints.registry import (
    BASE_VERSION,
    CARD_NAME,
    SMOKE_TOKENS,
    CheckpointRegistry,
    TensorInfo,
    build_card,
    checkpoint_files,
    describe_difference,
    digest_folder,
    read_card,
    read_tensor_table,
    verify_folder,
    verify_loadable,
)

__all__ = [
    "BASE_VERSION",
    "CARD_NAME",
    "SMOKE_TOKENS",
    "CheckpointRegistry",
    "TensorInfo",
    "build_card",
    "checkpoint_files",
    "describe_difference",
    "digest_folder",
    "read_card",
    "read_tensor_table",
    "verify_folder",
    "verify_loadable",
]
