"""The step ``train``: from the job's set to the candidate's folder."""

from __future__ import annotations

import torch

from services.trainer.data.dataset import check_images, read_training_set
from services.trainer.data.encoder import Encoder
from services.trainer.data.learnable import leave_out_unlearnable
from services.trainer.data.targets import Target
from services.trainer.evaluation.answering import Asker, question_of
from services.trainer.launch.ranks import ALONE, Ranks
from services.trainer.leveler import train
from services.trainer.leveler.arguments import TrainFolders, TrainPlace
from services.trainer.leveler.models import training_dtype
from services.trainer.losses import TargetKind
from services.trainer.run.base_check import check_files, check_saving, prepare
from services.trainer.run.inputs import load_checkpoint, open_asker, open_store
from services.trainer.run_config import RunConfig, TrainResult
from shared.errors import InvalidInput
from shared.sets import set_digest
from shared.store import Store
from shared.vlm.loading import LoadedModel, pick_device


def run_training(config: RunConfig, ranks: Ranks = ALONE) -> TrainResult:
    """Train, and write the candidate's folder; as one of several processes, take part in it.

    Raises InvalidInput, TrainingDiverged, BadCheckpoint.
    """
    store = open_store(config)
    _check_digest(config, store)
    data = read_training_set(store, config.job_id, config.round)
    if data.disparity == 0:
        raise InvalidInput("The set has no disparity pair to train on.")
    check_images(data.samples)
    check_files(config.base_folder)
    dtype = training_dtype(config.base_folder, config.spec.train)
    with open_asker(config, store) as asker:
        loaded = _load_trainable(config, ranks, dtype)
        prepare(loaded)
        if ranks.is_first:
            prompt = asker.student_prompt(loaded, question_of(data.samples[0]))
            check_saving(loaded, config.base_folder, config.folder, prompt)
        data = leave_out_unlearnable(data, loaded)
        if data.disparity == 0:
            raise InvalidInput("The student's tokenizer can learn no answer of the set's disparity pairs as text.")
        encoder = Encoder(
            loaded,
            lambda target: _prompt(asker, target),
            lambda sample: asker.images.open(sample.image, sample.image_sha256),
            cache_bytes=config.cache_bytes // 2,
        )
        return train(
            loaded.model,
            encoder,
            data,
            config.spec.train,
            _folders(config),
            _place(config, ranks, loaded),
            seed=config.spec.seed,
            reload=lambda: load_checkpoint(config, config.base_folder, "cpu", dtype).model.requires_grad_(True),
            can_explain=lambda task: bool(asker.profile(task).prompts.explain),
        )


def _check_digest(config: RunConfig, store: Store) -> None:
    """Raises InvalidInput for a set other than the one that the training began with."""
    found = set_digest(store, config.job_id) if config.set_digest else ""
    if found != config.set_digest:
        raise InvalidInput(
            f"The set of job {config.job_id} has digest {found[:12]}, but the training began with "
            f"{config.set_digest[:12]}: somebody changed its shards. Submit the job again."
        )


def _load_trainable(config: RunConfig, ranks: Ranks, dtype: str) -> LoadedModel:
    loaded = load_checkpoint(config, config.base_folder, _device(config, ranks), dtype)
    loaded.model.requires_grad_(True)
    if loaded.device.type == "cpu":
        # An explicit softmax is faster than the fused kernel for short sequences on CPUs.
        loaded.model.set_attn_implementation("eager")
    return loaded


def _device(config: RunConfig, ranks: Ranks) -> str:
    """A GPU of its own for each process."""
    device = str(pick_device(config.device))
    if device == "cuda" and ranks.count > 1:
        torch.cuda.set_device(ranks.local)
        return f"cuda:{ranks.local}"
    return device


def _prompt(asker: Asker, target: Target) -> str:
    """The user's turn that ``target``'s text answers."""
    sample = target.sample
    if target.kind == TargetKind.RATIONALE:
        return asker.profile(sample.task).explain_prompt(sample.question, sample.answer)
    return asker.prompt(question_of(sample))


def _folders(config: RunConfig) -> TrainFolders:
    return TrainFolders(
        base=config.base_folder,
        steps=config.step_folder,
        progress=config.progress_file,
        candidate=config.candidate,
        features=config.folder / "features",
        curves=config.curves,
    )


def _place(config: RunConfig, ranks: Ranks, loaded: LoadedModel) -> TrainPlace:
    return TrainPlace(
        cpu=loaded.device.type == "cpu",
        cache_bytes=config.cache_bytes // 2,
        ranks=ranks,
        report_to=config.report_to,
        name=f"mpa-{config.job_id}",
    )
