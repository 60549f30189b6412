"""LoRA checkpoints of one student, what their merged weights answer, and what vLLM says of its adapters."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import httpx
import torch
from safetensors.torch import load_file, save_file

from services.trainer.leveler.models import add_lora, save_candidate
from shared.checkpoints import CheckpointRegistry
from shared.contracts import LoraSpec
from shared.settings import StudentSettings
from shared.store import Store
from shared.vlm.generation import Generated
from shared.vlm.loading import load_model
from tests.polling import async_wait_until
from tests.services.student.engine_cases import Case, expected, make_cases, vllm_requests, vllm_url
from tests.services.student.small_replica import publish
from tests.tiny_models import DEMO_STUDENT

VERSIONS = ("first", "second")
TOWER = [f"model.vision_model.encoder.layers.0.self_attn.{name}_proj" for name in ("q", "k", "v")]


@dataclass(frozen=True)
class World:
    """A student stored in float32, checkpoints of it, and what plain `shared.vlm` answers with their weights."""

    registry: CheckpointRegistry
    folders: dict[str, Path]
    cases: list[Case]
    truth: dict[str, list[Generated]]

    def said(self, version: str) -> list[str]:
        return [answer.text for answer in self.truth[version]]


def in_float32(folder: Path) -> Path:
    shutil.copytree(DEMO_STUDENT, folder)
    tensors = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def adapted(base: Path, folder: Path, seed: int, spec: LoraSpec | None = None, noise: float = 0.4) -> Path:
    """A checkpoint as the trainer saves it, whose adapter is noise that changes answers."""
    model = add_lora(load_model(base).model, spec or LoraSpec(rank=8, alpha=16), seed)
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=noise)
    save_candidate(model, base, folder)
    return folder


def make_world(settings: StudentSettings) -> World:
    base, cases = Path(settings.student_model), make_cases()
    folders = {"base": base} | {name: adapted(base, base.parent / name, seed) for seed, name in enumerate(VERSIONS)}
    folders["tower"] = adapted(base, base.parent / "tower", 5, LoraSpec(rank=8, alpha=64, target_modules=TOWER))
    folders["endless"] = adapted(base, base.parent / "endless", 7, noise=6.0)
    registry = CheckpointRegistry(Store(settings.store_url), "student")
    registry.register_base(base)
    for name in (*VERSIONS, "tower", "endless"):
        publish(registry, folders[name], name)
    whole = base.parent / "whole"
    shutil.copytree(folders["first"], whole, ignore=shutil.ignore_patterns("adapter"))
    publish(registry, whole, "whole")
    told = {name: path for name, path in folders.items() if name != "endless"}
    return World(registry, folders, cases, {name: expected(load_model(path), cases) for name, path in told.items()})


async def adapters() -> list[str]:
    """Versions that vLLM itself lists as adapters."""
    async with httpx.AsyncClient(trust_env=False) as http:
        models = (await http.get(f"{vllm_url()}/v1/models", timeout=30)).json()["data"]
    return sorted(m["id"].removeprefix("student@").partition("#")[0] for m in models if m["id"] != "student")


async def working() -> bool:
    return await vllm_requests() > 0


async def in_memory() -> int:
    """Adapters in the memory of vLLM's worker, whether or not requests may name them."""
    async with httpx.AsyncClient(trust_env=False) as http:
        reply = await http.post(f"{vllm_url()}/collective_rpc", json={"method": "mpa_adapters"}, timeout=30)
    return len(reply.json()["results"][0])


async def until_only(versions: list[str]) -> None:
    async def only() -> bool:
        return await adapters() == sorted(versions) and await in_memory() == len(versions)

    await async_wait_until(only, 30)
