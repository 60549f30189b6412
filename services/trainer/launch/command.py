"""How the processes of a training are started: directly, or by accelerate with an operator's configuration file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from services.trainer.run_config import RunConfig
from shared.contracts import TrainSpec
from shared.errors import InvalidInput

KINDS = ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP", "DEEPSPEED")
REPORTERS = {"tensorboard": ("tensorboardX", "tensorboard"), "mlflow": ("mlflow",), "wandb": ("wandb",)}
_CHECKPOINTING = ("fsdp_activation_checkpointing", "activation_checkpointing")


@dataclass(frozen=True)
class Launch:
    """What accelerate's file says about the processes. ``kind`` is one of KINDS."""

    file: Path
    kind: str
    processes: int
    checkpoints_activations: bool = False


def read_launch(file: Path) -> Launch:
    """Read accelerate's YAML. Raises InvalidInput if the trainer cannot start what it describes."""
    content = _mapping(file)
    kind, processes = str(content.get("distributed_type", "NO")).upper(), content.get("num_processes", 1)
    if kind not in KINDS:
        raise InvalidInput(f"{file}: distributed_type {kind} is not supported. Use one of {', '.join(KINDS)}.")
    if not isinstance(processes, int) or isinstance(processes, bool) or processes < 1:
        raise InvalidInput(f"{file}: num_processes is {processes!r}, but must be a whole number from 1.")
    if content.get("num_machines", 1) != 1:
        raise InvalidInput(
            f"{file}: num_machines is {content['num_machines']}, but a trainer starts processes on its own machine."
        )
    if kind == "DEEPSPEED" and find_spec("deepspeed") is None:
        raise InvalidInput(f"{file} asks for DeepSpeed, which is not installed here: pip install deepspeed.")
    fsdp = content.get("fsdp_config") or {}
    return Launch(file, kind, processes, any(fsdp.get(name) for name in _CHECKPOINTING))


def check_fit(launch: Launch, spec: TrainSpec) -> None:
    """Raises InvalidInput if a job's training cannot be shared between these processes."""
    if launch.processes > spec.batch_size:
        raise InvalidInput(
            f"train.batch_size is {spec.batch_size}, but the trainer starts {launch.processes} processes "
            f"({launch.file}), and each of them needs a sample: raise train.batch_size."
        )
    if launch.checkpoints_activations and spec.gradient_checkpointing:
        raise InvalidInput(
            f"train.gradient_checkpointing and activation checkpointing in {launch.file} exclude each other: "
            "leave train.gradient_checkpointing out."
        )


def check_batch(count: int, spec: TrainSpec) -> None:
    """Raises InvalidInput if a batch has fewer samples than torchrun started processes."""
    if count > spec.batch_size:
        raise InvalidInput(
            f"train.batch_size is {spec.batch_size}, but torchrun started {count} processes, and each of them needs a "
            "sample: raise train.batch_size."
        )


def check_reporters(names: Sequence[str]) -> None:
    """Raises InvalidInput for a reporter whose package is not installed."""
    for name in names:
        if all(find_spec(package) is None for package in REPORTERS[name]):
            raise InvalidInput(
                f"MPA_TRAIN_REPORT_TO names {name}, whose package is not installed: "
                f"pip install {REPORTERS[name][0]}, or leave it out."
            )


def command(config: RunConfig, phase: str, file: Path) -> list[str]:
    """The command line of one phase. Only trainings have more than one process."""
    run = ["-m", "services.trainer.run", phase, str(file)]
    launch = read_launch(config.accelerate_config) if config.accelerate_config and phase == "train" else None
    if launch is None or (launch.processes == 1 and launch.kind in ("NO", "MULTI_CPU", "MULTI_GPU")):
        return [sys.executable, *run]
    precision = "bf16" if config.spec.train.precision == "bf16" else "no"
    options = ["--config_file", str(launch.file), "--main_process_port", "0", "--mixed_precision", precision]
    if launch.kind in ("NO", "MULTI_CPU"):
        # For several processes on CPUs accelerate would use MPI; this flag selects torch's own launcher.
        options.append("--multi_gpu")
    return [sys.executable, "-m", "accelerate.commands.launch", *options, *run]


def _mapping(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except FileNotFoundError as error:
        raise InvalidInput(f"MPA_TRAIN_ACCELERATE_CONFIG: {file} does not exist.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        words = " ".join(str(error).split())[:300]
        raise InvalidInput(f"MPA_TRAIN_ACCELERATE_CONFIG: {file} cannot be read as YAML: {words}") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"MPA_TRAIN_ACCELERATE_CONFIG: {file} is not an accelerate configuration (a YAML mapping).")
    return content
