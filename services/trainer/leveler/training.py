"""One training of the student on its disparity set with replay, from the loaded model to the candidate's folder.

An undisturbed run and one that was killed and resumed end in the same weights: batches are a pure function of the
seed and the step, and the Trainer's checkpoints hold weights, optimiser, schedule and random state. So does a run
that several processes share: they take parts of the same batches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from transformers import set_seed

from services.trainer.data.batch_plan import optimiser_steps
from services.trainer.data.collator import Collator
from services.trainer.data.dataset import TrainingSet
from services.trainer.data.encoder import Encoder
from services.trainer.data.sampler import PlanSampler
from services.trainer.leveler.arguments import TrainFolders, TrainPlace, training_arguments
from services.trainer.leveler.callbacks import add_callbacks
from services.trainer.leveler.callbacks.saved_steps import last_complete_step
from services.trainer.leveler.distributed import shared_out, whole_model
from services.trainer.leveler.feature_cache import FeatureShelf
from services.trainer.leveler.image_features import compute_features, freeze_vision
from services.trainer.leveler.leveler import Leveler
from services.trainer.leveler.models import add_lora, save_candidate
from services.trainer.leveler.term_inputs import prepare_terms
from services.trainer.losses import terms_of
from services.trainer.run_config import TrainResult
from shared.contracts import LoraSpec, TrainSpec
from shared.errors import InvalidInput

logger = logging.getLogger(__name__)


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
    """Train ``model`` (float32), write the candidate's folder and report how it went. Resumes from the last complete
    step in ``folders.steps``. ``reload`` loads the base again: several processes only have shards of ``model``.

    Raises TrainingDiverged, InvalidInput, BadCheckpoint.
    """
    set_seed(seed)
    alignment, ranks = spec.loss, place.ranks
    inputs = prepare_terms(alignment, model, encoder, data, can_explain)
    data = data.weighted(alignment)
    steps = optimiser_steps(spec, data.disparity, has_replay=data.replay > 0)
    arguments = training_arguments(spec, folders, steps, place, seed=seed)
    _check_model(model, spec)
    shelf = FeatureShelf(folders.features, place.cache_bytes if ranks.count == 1 else 0, writer=ranks.index)
    features = None
    if spec.freeze_vision:
        freeze_vision(model)
        features = compute_features(model, encoder, data.samples, shelf, batch_size=spec.batch_size, ranks=ranks)
    collator = Collator(encoder, features, maker=inputs.maker, tops=inputs.tops, maps=inputs.maps is not None)
    lengths = tuple(shared_out(data.samples, collator.length, ranks)) if spec.length_bucketing else None
    adapted = _adapter(spec, seed)
    trainer = Leveler(
        model=adapted(model),
        args=arguments,
        data=data,
        collator=collator,
        sampler=PlanSampler(data.plan(spec, seed, lengths), steps * spec.gradient_accumulation, ranks),
        terms=terms_of(alignment),
        maps=inputs.maps,
    )
    progress = add_callbacks(
        trainer,
        trainer.measures,
        folders.progress,
        samples_per_step=spec.batch_size * spec.gradient_accumulation,
        vocabulary=_vocabulary_size(model),
        report_to=place.report_to,
    )
    last = last_complete_step(folders.steps, clean=ranks.is_first)
    if last is not None:
        logger.info("the training resumes from %s", last.name)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    whole = whole_model(trainer, lambda: adapted(reload()))
    changed = None
    if whole is not None:
        changed = save_candidate(whole, folders.base, folders.candidate)
        shelf.clear()
    trainer.accelerator.wait_for_everyone()
    return TrainResult(
        steps=steps,
        final_loss=progress.final_loss(),
        samples_per_second=progress.rate() or 0.0,
        disparity_pairs=data.disparity,
        replay_pairs=data.replay,
        loss_weights={term.name: term.weight for term in terms_of(alignment)},
        changed_tensors=None if changed is None else len(changed),
    )


def _check_model(model: Any, spec: TrainSpec) -> None:
    if spec.gradient_checkpointing and not getattr(model, "supports_gradient_checkpointing", False):
        raise InvalidInput(
            f"{type(model).__name__} does not support gradient checkpointing: leave train.gradient_checkpointing out."
        )


def _adapter(spec: TrainSpec, seed: int) -> Callable[[Any], Any]:
    if spec.method == "lora":
        return lambda model: add_lora(model, spec.lora or LoraSpec(), seed)
    return lambda model: model


def _vocabulary_size(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])
