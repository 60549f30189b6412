"""One training process: dense warm start of the vision tower, then images and questions jointly."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from transformers import Idefics3Processor

from demo.training.architecture import build_model
from demo.training.batches import make_batch
from demo.training.dense import build_head, dense_accuracy, dense_loss
from demo.training.forward import answer_loss, vision
from demo.training.optimizer import MuonAdam
from demo.training.packing import Packer, normalise
from demo.training.processor import build_processor
from demo.training.recipe import PROCESSES, RECIPES, Recipe
from demo.training.scoring import score
from demo.training.state import load_state, save_state
from demo.world.generator import labelled, pile
from demo.world.vocabulary import Split

logger = logging.getLogger("demo.training")
DEV_SEED = 777


class Training:
    """A model in training; ``work`` holds its state, ``target`` the Hugging Face folder it is exported to."""

    def __init__(self, recipe: Recipe, rank: int, work: Path, target: Path, processes: int = PROCESSES) -> None:
        self._recipe, self._rank, self._work, self._target = recipe, rank, work, target
        self._processes = processes
        self._processor: Idefics3Processor = build_processor()
        self._model: Any = build_model(recipe.size, self._processor, recipe.seed)
        self._head = build_head(recipe.size.vision_width, recipe.seed)
        named = self._named()
        self._masters: dict[str, Tensor] = {name: p.detach().float().clone() for name, p in named}
        self._model.to(dtype=torch.bfloat16).train()
        self._head.to(torch.bfloat16)
        self._packer = Packer(self._processor.tokenizer)
        self._started = time.monotonic()

    def run(self) -> None:
        """Both phases, from the saved state if there is one; exports the model at each evaluation and at the end."""
        phase, done, tensors = load_state(self._work) or ("warm", 0, {})
        if tensors:
            self._load_masters(tensors)
            self._log(f"resumed at {phase} step {done}")
        if phase == "warm":
            self._phase("warm", self._recipe.warm_steps, done, tensors, self._warm_loss, self._report_warm)
            done, tensors = 0, {}
        self._phase("joint", self._recipe.joint_steps, done, tensors, self._joint_loss, self._report_joint)
        self._report_joint(self._recipe.joint_steps)

    def _phase(
        self,
        phase: str,
        steps: int,
        done: int,
        tensors: dict[str, Tensor],
        loss_at: Callable[[int], Tensor],
        report: Callable[[int], None],
    ) -> None:
        recipe = self._recipe
        parameters = [
            (name, p) for name, p in self._named() if phase == "joint" or "vision_model" in name or "head." in name
        ]
        optimizer = MuonAdam(
            parameters, self._masters, recipe.learning_rate, recipe.muon_rate, self._rank, self._processes
        )
        if tensors and done:
            optimizer.load_state(tensors)
        rate = recipe.joint_rate_factor if phase == "joint" else 1.0
        recent: list[float] = []
        for step in range(done, steps):
            loss = loss_at(step)
            torch.autograd.backward(loss)
            optimizer.step(rate * schedule((step + 1) / steps))
            recent.append(loss.item())
            if (step + 1) % 50 == 0:
                self._log(f"{phase} step {step + 1}/{steps} loss {np.mean(recent[-50:]):.3f}")
            if (step + 1) % recipe.save_every == 0 and self._rank == 0:
                save_state(self._work, phase, step + 1, {**self._prefixed_masters(), **optimizer.state()})
            if (step + 1) % recipe.evaluate_every == 0 and step + 1 < steps and self._rank == 0:
                report(step + 1)
        if phase == "warm" and self._rank == 0:
            report(steps)
            save_state(self._work, "joint", 0, self._prefixed_masters())

    def _warm_loss(self, step: int) -> Tensor:
        batch = make_batch(self._recipe, "warm", step, self._rank)
        return dense_loss(vision(self._model, batch.pixels), self._head, batch.dense)

    def _joint_loss(self, step: int) -> Tensor:
        batch = make_batch(self._recipe, "joint", step, self._rank)
        packed = self._packer.pack(batch.rows, torch.bfloat16)
        loss, features = answer_loss(self._model, batch.pixels, packed)
        weight = self._recipe.dense_weight * max(0.0, 1 - 1.2 * step / self._recipe.joint_steps)
        return loss + weight * dense_loss(features, self._head, batch.dense) if weight > 0 else loss

    def _report_warm(self, step: int) -> None:
        pictures = list(pile(300, DEV_SEED, Split.DEV))
        pixels = normalise(np.stack([picture.pixels for picture in pictures])).bfloat16()
        labels = torch.from_numpy(np.stack([picture.dense for picture in pictures])).long()
        with torch.no_grad():
            accuracy = dense_accuracy(vision(self._model, pixels), self._head, labels)
        self._log(f"warm step {step} dev patches {json.dumps(accuracy)}")

    def _report_joint(self, step: int) -> None:
        if self._rank:
            return
        pictures = list(pile(600, DEV_SEED, Split.DEV))
        families, kinds = score(self._model, self._packer, pictures, labelled(pictures, DEV_SEED))
        self._log(f"joint step {step} dev {json.dumps(families)}")
        self._log(json.dumps(kinds))
        self._export()

    def _export(self) -> None:
        self._target.mkdir(parents=True, exist_ok=True)
        self._model.save_pretrained(self._target)
        self._processor.save_pretrained(self._target)

    def _named(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [*self._model.named_parameters(), *((f"head.{n}", p) for n, p in self._head.named_parameters())]

    def _prefixed_masters(self) -> dict[str, Tensor]:
        return {f"master.{name}": value for name, value in self._masters.items()}

    def _load_masters(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._named():
                self._masters[name].copy_(tensors[f"master.{name}"])
                parameter.copy_(self._masters[name])

    def _log(self, text: str) -> None:
        if self._rank == 0:
            minutes = (time.monotonic() - self._started) / 60
            logger.info("%s %.1f min | %s", self._recipe.name, minutes, text)


def schedule(fraction: float) -> float:
    """Rate factor at ``fraction`` of a phase: 3 % warm-up, flat to 45 %, then straight down to nothing."""
    return min(1.0, fraction / 0.03) * (1.0 if fraction < 0.45 else max(0.0, (1 - fraction) / 0.55))


def main() -> None:
    parser = argparse.ArgumentParser(description="One process of a demo training; started by python -m demo.training.")
    parser.add_argument("--recipe", required=True, choices=[recipe.name for recipe in RECIPES])
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--rendezvous", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=options.rendezvous, world_size=PROCESSES, rank=options.rank)
    recipe = next(recipe for recipe in RECIPES if recipe.name == options.recipe)
    Training(recipe, options.rank, options.work, options.target).run()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
