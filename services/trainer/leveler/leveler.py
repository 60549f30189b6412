"""Hugging Face's Trainer for the Parity Leveler: batches of the plan, and the alignment loss."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments
from transformers.modeling_outputs import BaseModelOutputWithPooling

from services.trainer.data.collator import Collator
from services.trainer.data.dataset import TrainingSet
from services.trainer.data.sampler import PlanSampler, plan_loader
from services.trainer.leveler.attention import StudentMaps
from services.trainer.leveler.callbacks.measures import StepMeasures
from services.trainer.leveler.distributed import check_sharding, wrap_repeated_layers
from services.trainer.leveler.rates import rate_factor
from services.trainer.losses import IGNORE, PLAIN, Predictions, Term, TopTokens, alignment_loss

_FOR_THE_LOSS = (
    "labels",
    "sample",
    "kind",
    "is_replay",
    "weights",
    "shares",
    "top_ids",
    "top_logprobs",
    "teacher_maps",
)


class Leveler(Trainer):
    """Hugging Face's Trainer over a batch plan and the alignment loss."""

    def __init__(
        self,
        *,
        model: Any,
        args: TrainingArguments,
        data: TrainingSet,
        collator: Collator,
        sampler: PlanSampler,
        terms: tuple[Term, ...] = PLAIN,
        maps: StudentMaps | None = None,
    ) -> None:
        super().__init__(model=model, args=args, train_dataset=data, data_collator=collator)
        self.loss_is_scaled_for_ga = False
        self.model_accepts_loss_kwargs = False
        self._data, self._sampler = data, sampler
        self._terms, self._maps = terms, maps
        self.measures = StepMeasures()
        check_sharding(self)
        wrap_repeated_layers(self, model)
        unwrapped = self.accelerator.unwrap_model(model)
        inner = getattr(unwrapped, "get_base_model", lambda: unwrapped)()
        self._keeps_some_logits = "logits_to_keep" in inspect.signature(inner.forward).parameters

    def get_train_dataloader(self) -> DataLoader[Any]:
        return plan_loader(self._data, self._sampler, self.data_collator, self.args.device)

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LambdaLR:
        """The rates of `rate_factor`, once."""
        if self.lr_scheduler is None:
            factor = partial(rate_factor, warmup=int(self.args.warmup_steps), steps=num_training_steps)
            chosen = optimizer or self.optimizer
            assert chosen is not None
            self.lr_scheduler = LambdaLR(chosen, factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mean over the batch's samples of their losses; samples of all sizes count the same."""
        aside = {name: inputs.pop(name, None) for name in _FOR_THE_LOSS}
        labels, sample, teacher_maps = aside["labels"], aside["sample"], aside["teacher_maps"]
        inputs |= _given_features(inputs.pop("image_features", None))
        # Where images take up different numbers of tokens, answers lie far apart: leave out what is in between.
        said = (labels != IGNORE).any(0).nonzero()[:, 0]
        if self._keeps_some_logits:
            inputs["logits_to_keep"] = said - 1
        if teacher_maps is not None:
            inputs["output_attentions"] = True
        outputs = model(**inputs, use_cache=False)
        student_maps = None
        if teacher_maps is not None and self._maps is not None:
            student_maps = self._maps.of(outputs.attentions, inputs, labels, sample, teacher_maps)
        predictions = Predictions(
            logits=outputs.logits if self._keeps_some_logits else outputs.logits[:, said - 1],
            labels=labels[:, said],
            sample=sample,
            kind=aside["kind"],
            is_replay=aside["is_replay"],
            weights=aside["weights"],
            shares=aside["shares"],
            top=_top_tokens(aside["top_ids"], aside["top_logprobs"], said),
            teacher_maps=teacher_maps,
            student_maps=student_maps,
        )
        loss, terms = alignment_loss(predictions, self._terms)
        loss = loss * self._sampler.weight(len(aside["is_replay"]))
        self.measures.add(float(loss.detach()), terms)
        return (loss, outputs) if return_outputs else loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Note the norm for the callbacks that come between the backward pass and the optimiser."""
        norm = super()._get_grad_norm(model, grad_norm)  # type: ignore[no-untyped-call]
        self.measures.gradient_norm = None if norm is None else _as_float(norm)
        return norm


def _as_float(norm: Any) -> float:
    """From a number, a tensor, or a tensor that is sharded over processes."""
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def _top_tokens(ids: Tensor | None, logprobs: Tensor | None, places: Tensor) -> TopTokens | None:
    return None if ids is None or logprobs is None else TopTokens(ids[:, places], logprobs[:, places])


def _given_features(features: Tensor | list[Tensor] | None) -> Mapping[str, Any]:
    if features is None:
        return {}
    return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=features)}}  # type: ignore[arg-type]
