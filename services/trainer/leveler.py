"""The Parity Leveler: one training of the student on its disparity set with replay, on Hugging Face's Trainer.

An undisturbed run and one that was killed and resumed end in the same weights: batches are a pure function of the
seed and the step, and the Trainer's checkpoints hold weights, optimiser, schedule and random state.
"""

from __future__ import annotations

import inspect
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
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

from services.trainer.collator import Collator, Encoder
from services.trainer.config import TrainResult
from services.trainer.dataset import TrainingSet
from services.trainer.features import compute_features, freeze_vision
from services.trainer.losses import IGNORE, PLAIN, Predictions, Term, TopTokens, alignment_loss, terms_of
from services.trainer.meter import Meter
from services.trainer.models import add_lora, save_candidate
from services.trainer.plan import BatchPlan, optimiser_steps
from services.trainer.rows import RowMaker
from services.trainer.student_maps import StudentMaps
from services.trainer.teacher_tokens import TeacherTokens
from shared.alignment import Alignment, resolve
from shared.contracts import LoraSpec, TrainSpec

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


@dataclass(frozen=True)
class TrainFolders:
    """``steps``: the Trainer's own checkpoints; ``progress``: JSONL, a line a step; ``candidate``: the result."""

    base: Path
    steps: Path
    progress: Path
    candidate: Path


def train(
    model: Any,
    encoder: Encoder,
    data: TrainingSet,
    spec: TrainSpec,
    folders: TrainFolders,
    *,
    seed: int,
    cpu: bool,
    cache_bytes: int,
    can_explain: Callable[[str], bool] = lambda _: False,
) -> TrainResult:
    """Train ``model`` (float32), write the candidate folder, say how it went. Resumes from the last complete step in
    ``steps``.

    Raises TrainingDiverged, InvalidInput, BadCheckpoint.
    """
    set_seed(seed)
    alignment = resolve(spec.loss)
    aids = _aids(alignment, model, encoder, data, can_explain)
    data = data.weighted(alignment)
    features = None
    if spec.freeze_vision:
        freeze_vision(model)
        features = compute_features(model, encoder, data.samples, batch_size=spec.batch_size, cache_bytes=cache_bytes)
    if spec.method == "lora":
        model = add_lora(model, spec.lora or LoraSpec(), seed)
    steps = optimiser_steps(spec, data.disparity, has_replay=data.replay > 0)
    last = last_complete_step(folders.steps)
    meter = Meter(folders.progress, steps, spec.batch_size * spec.gradient_accumulation, resumed_at=_step_of(last))
    trainer = Leveler(
        model=model,
        args=_arguments(spec, folders.steps, steps, seed=seed, cpu=cpu),
        data=data,
        collator=Collator(encoder, features, maker=aids.maker, tops=aids.tops, maps=aids.maps is not None),
        micro_batches=steps * spec.gradient_accumulation,
        plan_seed=seed,
        spec=spec,
        meter=meter,
        terms=terms_of(alignment),
        maps=aids.maps,
    )
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    save_candidate(trainer.accelerator.unwrap_model(trainer.model), folders.base, folders.candidate)
    return TrainResult(
        steps=steps,
        final_loss=meter.final_loss(),
        samples_per_second=meter.rate() or 0.0,
        disparity_pairs=data.disparity,
        replay_pairs=data.replay,
        loss_weights={term.name: term.weight for term in terms_of(alignment)},
    )


@dataclass(frozen=True)
class _Aids:
    """What an alignment with terms beside the answer needs; all None for one that has none."""

    maker: RowMaker | None = None
    tops: TeacherTokens | None = None
    maps: StudentMaps | None = None


def _aids(
    alignment: Alignment, model: Any, encoder: Encoder, data: TrainingSet, can_explain: Callable[[str], bool]
) -> _Aids:
    """Raises InvalidInput where the set lacks what the alignment asks for."""
    if alignment == Alignment():
        return _Aids()
    tops = TeacherTokens(encoder.loaded, encoder.answer_ids)
    maker = RowMaker(alignment, tops.has, can_explain)
    maker.check(data)
    if alignment.attention <= 0:
        return _Aids(maker, tops)
    model.set_attn_implementation("eager")  # the only kind that shows its weights
    return _Aids(maker, tops, StudentMaps(encoder.loaded))


class PlanSampler(Sampler[list[int]]):
    """The first ``batches`` batches of a plan, as a batch sampler."""

    def __init__(self, plan: BatchPlan, batches: int) -> None:
        self.plan = plan
        self.batch_size = plan.batch_size
        self.drop_last = False
        self._batches = batches

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        return (self.plan.batch(number) for number in range(self._batches))


class Leveler(Trainer):
    """Hugging Face's Trainer over a batch plan and the alignment loss."""

    def __init__(
        self,
        *,
        model: Any,
        args: TrainingArguments,
        data: TrainingSet,
        collator: Collator,
        micro_batches: int,
        plan_seed: int,
        spec: TrainSpec,
        meter: Meter,
        terms: tuple[Term, ...] = PLAIN,
        maps: StudentMaps | None = None,
    ) -> None:
        super().__init__(model=model, args=args, train_dataset=data, data_collator=collator)
        self.loss_is_scaled_for_ga = False
        self.model_accepts_loss_kwargs = False
        self._sampler = PlanSampler(data.plan(spec, plan_seed), micro_batches)
        self._terms, self._maps = terms, maps
        self._meter = meter
        self._vocabulary = _vocabulary_size(model)
        unwrapped = self.accelerator.unwrap_model(model)
        inner = getattr(unwrapped, "get_base_model", lambda: unwrapped)()
        self._keeps_some_logits = "logits_to_keep" in inspect.signature(inner.forward).parameters
        self.remove_callback(PrinterCallback)
        self.add_callback(_Bookkeeping(meter))

    def get_train_dataloader(self) -> DataLoader[Any]:
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_sampler=self._sampler,
            collate_fn=self.data_collator,
            num_workers=0,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

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
        self._meter.saw(float(loss.detach()), self._vocabulary, self.state.global_step, terms)
        return (loss, outputs) if return_outputs else loss


class _Bookkeeping(TrainerCallback):
    """Progress after each step; and a marker in each saved step, because a kill can leave half a folder."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            self._meter.step_done(state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        (Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()


def last_complete_step(folder: Path) -> Path | None:
    """The newest whole checkpoint of the Trainer; half-written ones are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=_step_of)
    for path in found:
        if not (path / _COMPLETE).exists():
            shutil.rmtree(path)
    whole = [path for path in found if path.exists()]
    return whole[-1] if whole else None


def _step_of(path: Path | None) -> int:
    return int(path.name.rpartition("-")[2]) if path else 0


def _arguments(spec: TrainSpec, folder: Path, steps: int, *, seed: int, cpu: bool) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=spec.batch_size,
        gradient_accumulation_steps=spec.gradient_accumulation,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(steps * spec.warmup_fraction),
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.max_grad_norm,
        optim="adamw_torch",
        bf16=spec.precision == "bf16",
        use_cpu=cpu,
        seed=seed,
        save_strategy="steps",
        save_steps=spec.save_every_steps,
        save_total_limit=2,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=not cpu,
    )
    if arguments.n_gpu > 1:
        # One device a process: several devices are for several processes, not for DataParallel.
        arguments._n_gpu = 1
    return arguments


def _top_tokens(ids: Tensor | None, logprobs: Tensor | None, places: Tensor) -> TopTokens | None:
    return None if ids is None or logprobs is None else TopTokens(ids[:, places], logprobs[:, places])


def _given_features(features: Tensor | list[Tensor] | None) -> Mapping[str, Any]:
    if features is None:
        return {}
    return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=features)}}  # type: ignore[arg-type]


def _vocabulary_size(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])
