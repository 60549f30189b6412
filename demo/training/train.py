"""One training process: dense warm start of the vision tower, then images and questions jointly, stage by stage."""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor
from transformers import Idefics3Processor

from demo.training.architecture import build_model
from demo.training.batches import make_batch
from demo.training.dense import build_head, dense_accuracy, dense_loss
from demo.training.forward import answer_loss, vision
from demo.training.optimizer import MuonAdam
from demo.training.packing import Packer, normalise
from demo.training.processor import build_processor
from demo.training.recipe import PROCESSES, RECIPES, Recipe, Stage
from demo.training.scoring import explained, score
from demo.training.state import load_state, save_state
from demo.training.words import EMBEDDING, link_words
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
        self._model.to(torch.bfloat16).train()
        self._head.to(torch.bfloat16)
        self._packer = Packer(self._processor.tokenizer)
        self._started = time.monotonic()

    def run(self) -> None:
        """All stages, from the saved state if there is one; exports the model at each evaluation and at the end."""
        stages = self._recipe.stages
        name, done, tensors = load_state(self._work) or (stages[0].name, 0, {})
        if tensors:
            self._load_masters(tensors)
            self._log(f"resumed at {name} step {done}")
        first = [stage.name for stage in stages].index(name)
        for stage in stages[first:]:
            self._run_stage(stage, done, tensors)
            done, tensors = 0, {}
        self._report(stages[-1], stages[-1].steps)

    def start_last_stage(self, finished: Path) -> None:
        """Take the weights of the exported model in ``finished`` as the outcome of all stages but the last, unless
        there is a state to go on from.
        """
        if self._rank == 0 and load_state(self._work) is None:
            weights = load_file(finished / "model.safetensors")
            for name, _ in self._model.named_parameters():
                self._masters[name].copy_(weights[name])
            before = self._recipe.stages[-2]
            save_state(self._work, before.name, before.steps, self._prefixed_masters())
        if self._processes > 1:
            dist.barrier()

    def _run_stage(self, stage: Stage, done: int, tensors: dict[str, Tensor]) -> None:
        recipe = self._recipe
        trained = [
            (name, p) for name, p in self._named() if not stage.is_warm or "vision_model" in name or "head." in name
        ]
        optimizer = MuonAdam(
            trained, self._masters, recipe.learning_rate, recipe.muon_rate, self._rank, self._processes
        )
        if tensors and 0 < done < stage.steps:
            optimizer.load_state(tensors)
        if stage.link_words and done == 0:
            link_words(self._masters[EMBEDDING], self._processor.tokenizer)
        if (stage.soften != 1.0 or stage.rounded) and done == 0:
            soften_attention(self._masters, stage.soften)
        recent: list[float] = []
        for step in range(done, stage.steps):
            loss = self._loss(stage, step)
            torch.autograd.backward(loss)
            optimizer.step(stage.rate_factor(step))
            recent.append(loss.item())
            now = step + 1
            if now % 50 == 0:
                self._log(f"{stage.name} step {now}/{stage.steps} loss {np.mean(recent[-50:]):.3f}")
            if (now % recipe.save_every == 0 or now == stage.steps) and self._rank == 0:
                save_state(self._work, stage.name, now, {**self._prefixed_masters(), **optimizer.state()})
            if now % recipe.evaluate_every == 0 and now < stage.steps:
                self._report(stage, now)

    def _loss(self, stage: Stage, step: int) -> Tensor:
        batch = make_batch(self._recipe, stage, step, self._rank)
        if stage.is_warm:
            return dense_loss(vision(self._model, batch.pixels), self._head, batch.dense)
        packed = self._packer.pack(batch.rows, torch.bfloat16)
        loss, features = answer_loss(self._model, batch.pixels, packed)
        weight = stage.dense_factor(step)
        return loss + weight * dense_loss(features, self._head, batch.dense) if weight > 0 else loss

    def _report(self, stage: Stage, step: int) -> None:
        if self._rank == 0 and stage.is_warm:
            self._report_patches(step)
        elif self._rank == 0:
            self._report_answers(stage, step)

    def _report_patches(self, step: int) -> None:
        pictures = list(pile(300, DEV_SEED, Split.DEV))
        pixels = normalise(np.stack([picture.pixels for picture in pictures])).bfloat16()
        labels = torch.from_numpy(np.stack([picture.dense for picture in pictures])).long()
        with torch.no_grad():
            accuracy = dense_accuracy(vision(self._model, pixels), self._head, labels)
        self._log(f"warm step {step} dev patches {json.dumps(accuracy)}")

    def _report_answers(self, stage: Stage, step: int) -> None:
        pictures = list(pile(600, DEV_SEED, Split.DEV))
        examples = labelled(pictures, DEV_SEED)
        families, kinds = score(self._model, self._packer, pictures, examples)
        self._log(f"{stage.name} step {step} dev {json.dumps(families)}")
        self._log(json.dumps(kinds))
        if stage.explained:
            families, kinds = score(self._model, self._packer, pictures, [explained(one) for one in examples])
            self._log(f"{stage.name} step {step} dev rationales {json.dumps(families)}")
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


@torch.no_grad()
def soften_attention(masters: dict[str, Tensor], factor: float) -> None:
    """Scale the queries of the language model, in place, after rounding all masters to bfloat16.

    Long training at a high rate drove attention to weights of exactly 0 and 1, where no gradient flows: the teacher
    could not learn to look at the label a question names, whatever it was shown. Softer scores let it. The rounding
    makes the stage start from the exported weights.
    """
    for name, master in masters.items():
        master.copy_(master.bfloat16())
        if "text_model" in name and "q_proj" in name:
            master.mul_(factor)


def main() -> None:
    parser = argparse.ArgumentParser(description="One process of a demo training; started by python -m demo.training.")
    parser.add_argument("--recipe", required=True, choices=[recipe.name for recipe in RECIPES])
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--rendezvous", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--start", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=options.rendezvous, world_size=PROCESSES, rank=options.rank)
    recipe = next(recipe for recipe in RECIPES if recipe.name == options.recipe)
    training = Training(recipe, options.rank, options.work, options.target)
    if options.start is not None:
        training.start_last_stage(options.start)
    training.run()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
