"""The Parity Leveler: one training of the student on its disparity set with replay, on Hugging Face's Trainer.

An undisturbed run and one that was killed and resumed end in the same weights: batches are a pure function of the
seed and the step, and the Trainer's checkpoints hold weights, optimiser, schedule and random state. So does a run
shared by several processes: they take parts of the same batches.
"""

from __future__ import annotations

import inspect
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

from services.trainer.data.batch_plan import optimiser_steps
from services.trainer.data.collator import Collator, Encoder
from services.trainer.data.dataset import TrainingSet
from services.trainer.data.sampler import PlanSampler, plan_loader
from services.trainer.leveler.arguments import TrainFolders, TrainPlace, training_arguments
from services.trainer.leveler.attention import StudentMaps
from services.trainer.leveler.distributed import (
    check_sharding,
    gather_rows,
    shared_out,
    whole_model,
    wrap_repeated_layers,
)
from services.trainer.leveler.feature_cache import FeatureShelf
from services.trainer.leveler.image_features import compute_features, freeze_vision
from services.trainer.leveler.meter import Meter
from services.trainer.leveler.models import add_lora, save_candidate
from services.trainer.leveler.term_inputs import aids_of
from services.trainer.losses import IGNORE, PLAIN, Predictions, Term, TopTokens, alignment_loss, terms_of
from services.trainer.run_config import TrainResult
from shared.contracts import LoraSpec, TrainSpec
from shared.errors import InvalidInput
from shared.loss_spec import resolve

logger = logging.getLogger(__name__)

_COMPLETE = "complete"
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


def train(
    model: Any,
    encoder: Encoder,
    data: TrainingSet,
    spec: TrainSpec,
    folders: TrainFolders,
    place: TrainPlace,
    *,
    seed: int,
    reload: Callable[[], Any],
    can_explain: Callable[[str], bool] = lambda _: False,
) -> TrainResult:
    """Train ``model`` (float32), write the candidate folder, say how it went. Resumes from the last complete step in
    ``steps``. ``reload`` gives the base again, to hold what several processes have shards of.

    Raises TrainingDiverged, InvalidInput, BadCheckpoint.
    """
    set_seed(seed)
    alignment = resolve(spec.loss)
    aids = aids_of(alignment, model, encoder, data, can_explain)
    data = data.weighted(alignment)
    steps = optimiser_steps(spec, data.disparity, has_replay=data.replay > 0)
    arguments = training_arguments(spec, folders, steps, place, seed=seed)
    _check_model(model, spec)
    ranks = place.ranks
    shelf = FeatureShelf(folders.features, place.cache_bytes if ranks.count == 1 else 0, writer=ranks.index)
    features = None
    if spec.freeze_vision:
        freeze_vision(model)
        features = compute_features(model, encoder, data.samples, shelf, batch_size=spec.batch_size, ranks=ranks)
    collator = Collator(encoder, features, maker=aids.maker, tops=aids.tops, maps=aids.maps is not None)
    lengths = tuple(shared_out(data.samples, collator.length, ranks)) if spec.length_bucketing else None
    adapted = _adapter(spec, seed)
    last = last_complete_step(folders.steps, clean=ranks.is_first)
    trainer = Leveler(
        model=adapted(model),
        args=arguments,
        data=data,
        collator=collator,
        sampler=PlanSampler(data.plan(spec, seed, lengths), steps * spec.gradient_accumulation, ranks),
        spec=spec,
        progress=folders.progress,
        resumed_at=_step_of(last),
        terms=terms_of(alignment),
        maps=aids.maps,
    )
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    whole = whole_model(trainer, lambda: adapted(reload()))
    if whole is not None:
        save_candidate(whole, folders.base, folders.candidate)
        shelf.clear()
    trainer.accelerator.wait_for_everyone()
    return TrainResult(
        steps=steps,
        final_loss=trainer.meter.final_loss(),
        samples_per_second=trainer.meter.rate() or 0.0,
        disparity_pairs=data.disparity,
        replay_pairs=data.replay,
        loss_weights={term.name: term.weight for term in terms_of(alignment)},
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
        spec: TrainSpec,
        progress: Path,
        resumed_at: int = 0,
        terms: tuple[Term, ...] = PLAIN,
        maps: StudentMaps | None = None,
    ) -> None:
        super().__init__(model=model, args=args, train_dataset=data, data_collator=collator)
        self.loss_is_scaled_for_ga = False
        self.model_accepts_loss_kwargs = False
        self._data, self._sampler = data, sampler
        self._terms, self._maps = terms, maps
        self.meter = Meter(
            progress,
            args.max_steps,
            spec.batch_size * spec.gradient_accumulation,
            resumed_at,
            max_norm=spec.max_grad_norm,
            gather=gather_rows(self.accelerator),
            writes=self.accelerator.is_main_process,
        )
        check_sharding(self)
        wrap_repeated_layers(self, model)
        self._vocabulary = _vocabulary_size(model)
        unwrapped = self.accelerator.unwrap_model(model)
        inner = getattr(unwrapped, "get_base_model", lambda: unwrapped)()
        self._keeps_some_logits = "logits_to_keep" in inspect.signature(inner.forward).parameters
        self.remove_callback(PrinterCallback)
        self.add_callback(_Bookkeeping(self.meter, self.accelerator.wait_for_everyone))

    def get_train_dataloader(self) -> DataLoader[Any]:
        return plan_loader(self._data, self._sampler, self.data_collator, self.args.device)

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
        self.meter.saw(float(loss.detach()), self._vocabulary, self.state.global_step, terms)
        return (loss, outputs) if return_outputs else loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The hook between the backward pass and the optimiser: a gradient that is no number is never applied."""
        norm = super()._get_grad_norm(model, grad_norm)  # type: ignore[no-untyped-call]
        if norm is not None:
            self.meter.gradient(_as_float(norm), self.state.global_step)
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """What TensorBoard, MLflow and W&B get, with what the job's status shows."""
        last = self.meter.last
        if last is not None:
            extra = {"samples_per_second": last.samples_per_second, "memory_bytes": last.memory_bytes}
            logs |= {name: float(value) for name, value in extra.items() if value is not None}
            logs |= {f"loss_{name}": value for name, value in last.terms.items()}
        super().log(logs, start_time)


class _Bookkeeping(TrainerCallback):
    """Progress after each step; and a marker in each saved step, because a kill can leave half a folder."""

    def __init__(self, meter: Meter, wait_for_everyone: Callable[[], None]) -> None:
        self._meter, self._wait_for_everyone = meter, wait_for_everyone

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._meter.step_done(state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._wait_for_everyone()
        if state.is_world_process_zero:
            (Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()


def last_complete_step(folder: Path, clean: bool = True) -> Path | None:
    """The newest whole checkpoint of the Trainer; with ``clean`` half-written ones are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=_step_of)
    whole = [path for path in found if (path / _COMPLETE).exists()]
    for path in found if clean else []:
        if path not in whole:
            shutil.rmtree(path)
    return whole[-1] if whole else None


def _step_of(path: Path | None) -> int:
    return int(path.name.rpartition("-")[2]) if path else 0


def _adapter(spec: TrainSpec, seed: int) -> Callable[[Any], Any]:
    if spec.method == "lora":
        return lambda model: add_lora(model, spec.lora or LoraSpec(), seed)
    return lambda model: model


def _check_model(model: Any, spec: TrainSpec) -> None:
    if spec.gradient_checkpointing and not getattr(model, "supports_gradient_checkpointing", False):
        raise InvalidInput(f"{type(model).__name__} has no gradient checkpointing: leave it out of the job's train.")


def _as_float(norm: Any) -> float:
    """Of a number, a tensor, or one that is shared out over processes."""
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def _top_tokens(ids: Tensor | None, logprobs: Tensor | None, places: Tensor) -> TopTokens | None:
    return None if ids is None or logprobs is None else TopTokens(ids[:, places], logprobs[:, places])


def _given_features(features: Tensor | list[Tensor] | None) -> Mapping[str, Any]:
    if features is None:
        return {}
    return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=features)}}  # type: ignore[arg-type]


def _vocabulary_size(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])
