"""``python -m services.trainer.run train|evaluate <run.json>``: one step of one training in a process of its own.

A process of its own, so that memory, threads and crashes of the training never touch the worker, and a kill stops
all of it. It ends at once when its parent goes (its standard input closes), and a lock keeps a second one out of the
same folder. A launcher may start several of it for one training: then the first holds the lock and writes the results.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from services.trainer.data.collator import Encoder
from services.trainer.data.dataset import Sample, check_images, read_held_out, read_training_set
from services.trainer.data.images import Pictures
from services.trainer.data.texts import Row
from services.trainer.evaluation.answering import Asker, Question
from services.trainer.evaluation.benchmark import read_benchmark
from services.trainer.evaluation.evaluate import evaluate
from services.trainer.launch.failures import failure_of
from services.trainer.launch.ranks import ALONE, Ranks
from services.trainer.leveler import train
from services.trainer.leveler.arguments import TrainFolders, TrainPlace
from services.trainer.leveler.models import training_dtype
from services.trainer.losses import Kind
from services.trainer.run_config import TRACE_VARIABLE, EvaluationResult, Failure, RunConfig, TrainResult, load, save
from shared.client import ChatClient
from shared.errors import InvalidInput, MPAError, Unavailable
from shared.images import ImageLimits
from shared.images.files import ImageFiles
from shared.sets import set_digest
from shared.settings import TrainerSettings
from shared.store import Store
from shared.telemetry import log_fields, setup_logging
from shared.telemetry.tracing import open_traces
from shared.vlm.loading import LoadedModel, load_model, pick_device
from shared.vqa.tasks import load_profiles

logger = logging.getLogger(__name__)

LOCK_PATIENCE = 30.0
ORPHANED = 3
TEACHER_CALLS = 8


def main(arguments: Sequence[str]) -> int:
    """0: done; 1: failed, with the reason in ``failure.json``."""
    phase, path = arguments
    config = load(RunConfig, Path(path))
    if config is None:
        raise SystemExit(f"{path} is no run configuration")
    settings = TrainerSettings()
    setup_logging("trainer-run", settings)
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    ranks = Ranks.of()
    torch.set_num_threads(max(1, config.threads // ranks.beside))
    with log_fields(job_id=config.job_id):
        try:
            with _traced(phase, settings, ranks):
                _run(phase, config, ranks)
        except Exception as error:
            failure = failure_of(error, phase)
            save_failure(config, failure)
            logger.error("%s", failure.detail, exc_info=not isinstance(error, MPAError))
            # not by way of the others: a process that waits for them in its last moments would never end
            return _end(1) if ranks.count > 1 else 1
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return 0


def _run(phase: str, config: RunConfig, ranks: Ranks) -> None:
    with _only_one(config.folder) if ranks.is_first else nullcontext():
        logger.info("step '%s' of round %d begins", phase, config.round)
        if phase == "train":
            result = run_training(config, ranks)
            if ranks.is_first:
                save(config.folder / "result.json", result)
        else:
            save(config.folder / "evaluation.json", run_evaluation(config))


@contextmanager
def _traced(phase: str, settings: TrainerSettings, ranks: Ranks) -> Iterator[None]:
    """In the worker's trace, with the calls to the teacher below; without a trace where the worker has none."""
    parent = os.environ.get(TRACE_VARIABLE)
    traces = open_traces("trainer-run", settings) if parent else None
    if traces is None:
        yield
        return
    try:
        with traces.root(f"run {phase}", "internal", parent, {"mpa.rank": ranks.index}):
            yield
    finally:
        traces.close()


def run_training(config: RunConfig, ranks: Ranks = ALONE) -> TrainResult:
    """Train, and write the candidate folder; as one of several processes, take part in it."""
    store = Store(config.store_url, config.cache_dir)
    _check_digest(config, store)
    data = read_training_set(store, config.job_id, config.round)
    if data.disparity == 0:
        raise InvalidInput("The set has no disparity pair to train on.")
    check_images(data.samples)
    with _files(config, store) as files:
        pictures = Pictures(files, _limits(config))
        dtype = training_dtype(config.base_folder, config.spec.train)
        loaded = _load(config, config.base_folder, _device(config, ranks), dtype)
        loaded.model.requires_grad_(True)
        profiles = load_profiles(config.tasks_file)
        asker = Asker(pictures, _limits(config), profiles)
        encoder = Encoder(
            loaded,
            lambda row: _prompt(asker, row),
            pictures.open,
            cache_bytes=config.cache_bytes // 2,
        )
        if loaded.device.type == "cpu":
            # an explicit softmax is faster than the fused kernel for short sequences on CPUs
            loaded.model.set_attn_implementation("eager")
        return train(
            loaded.model,
            encoder,
            data,
            config.spec.train,
            TrainFolders(
                config.base_folder,
                config.step_folder,
                config.progress_file,
                config.candidate,
                config.folder / "features",
                config.curves,
            ),
            TrainPlace(
                loaded.device.type == "cpu", config.cache_bytes // 2, ranks, config.report_to, f"mpa-{config.job_id}"
            ),
            seed=config.spec.seed,
            reload=lambda: _load(config, config.base_folder, "cpu", dtype).model.requires_grad_(True),
            can_explain=lambda task: bool(asker.profile(task).prompts.explain),
        )


def _check_digest(config: RunConfig, store: Store) -> None:
    """A set that is not the one that the training began with must not be mixed with it."""
    found = set_digest(store, config.job_id) if config.set_digest else ""
    if found != config.set_digest:
        raise InvalidInput(
            f"The set of job {config.job_id} has digest {found[:12]}, but the training began with "
            f"{config.set_digest[:12]}: somebody changed its shards. Submit the job again."
        )


def _prompt(asker: Asker, row: Row) -> str:
    """The user's turn that ``row``'s text answers."""
    if row.kind == Kind.RATIONALE:
        return asker.profile(row.sample.task).explain_prompt(row.sample.question, row.sample.answer)
    return asker.prompt(_question(row.sample))


def run_evaluation(config: RunConfig) -> EvaluationResult:
    """Ask the base and the candidate, and the teacher where there are labels."""
    store = Store(config.store_url, config.cache_dir)
    held_out = read_held_out(store, config.job_id)
    new = read_held_out(store, config.job_id, config.round) if config.round > 1 else []
    check_images([*held_out, *new])
    profiles = load_profiles(config.tasks_file)
    labelled = read_benchmark(Path(config.spec.benchmark), profiles) if config.spec.benchmark else []
    with _files(config, store) as files:
        asker = Asker(Pictures(files, _limits(config)), _limits(config), profiles)
        return evaluate(
            asker,
            lambda: _load(config, config.before_folder or config.base_folder, config.device),
            lambda: _load(config, config.candidate, config.device),
            held_out,
            labelled,
            config.spec.identifier,
            batch_size=config.eval_batch_size,
            new=new,
            ask_teacher=lambda questions: asyncio.run(_ask_teacher(config, asker, questions)),
        )


async def _ask_teacher(config: RunConfig, asker: Asker, questions: Sequence[Question]) -> list[str] | None:
    key = TrainerSettings().teacher_api_key or TrainerSettings().api_key
    async with ChatClient(
        config.teacher_url,
        model=config.teacher_name,
        api_key=key.get_secret_value() if key else None,
        timeout=config.call_timeout,
        max_connections=TEACHER_CALLS,
    ) as teacher:
        return await asker.teacher_answers(teacher, questions, TEACHER_CALLS)


def _load(config: RunConfig, folder: Path, device: str, dtype: str = "float32") -> LoadedModel:
    device = str(pick_device(device))
    return load_model(folder, dtype=dtype, device=device, trust_remote_code=config.trust_remote_code)


def _device(config: RunConfig, ranks: Ranks) -> str:
    """A GPU of its own for each process."""
    device = str(pick_device(config.device))
    if device == "cuda" and ranks.count > 1:
        torch.cuda.set_device(ranks.local)
        return f"cuda:{ranks.local}"
    return device


def _question(sample: Sample) -> Question:
    return Question(sample.image, sample.task, sample.question, sample.image_sha256)


def _files(config: RunConfig, store: Store) -> ImageFiles:
    # The folders that may be read were checked when the job was collected; the set names no others.
    return ImageFiles(
        store,
        roots=None,
        max_bytes=config.max_image_bytes,
        allow_urls=config.allow_image_urls,
        allow_private_urls=config.allow_private_image_urls,
        timeout=config.call_timeout,
    )


def _limits(config: RunConfig) -> ImageLimits:
    return ImageLimits(config.max_image_bytes, config.max_image_pixels, config.min_image_side)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Wait until nobody else works in ``folder``: a predecessor may be ending. Raises Unavailable if it does not."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        deadline = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise Unavailable(f"Another process is training in {folder} and does not end.") from error
                time.sleep(0.1)
        yield


def save_failure(config: RunConfig, failure: Failure) -> None:
    """The first of several processes to fail says why: what the others see of it is only that they are left alone."""
    path = config.folder / "failure.json"
    own = path.with_name(f".tmp-failure-{os.getpid()}.json")
    save(own, failure)
    with suppress(FileExistsError):
        os.link(own, path)
    own.unlink()


def _end(code: int) -> int:
    logging.shutdown()
    os._exit(code)


def _end_with_parent() -> None:
    """The parent holds the other end of standard input and never writes: it closes when the parent is gone, however
    it went.
    """
    while os.read(0, 1024):  # unbuffered: a lock on sys.stdin would abort the interpreter's own end
        pass
    os._exit(ORPHANED)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
