"""What would fail at the first save, at publishing or in the evaluation, found in the base before the first step."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from services.trainer.leveler.models import save_candidate
from shared.checkpoints.quantisation import quantisation_of, words_for
from shared.errors import BadCheckpoint
from shared.vlm.generation import generate
from shared.vlm.loading import LoadedModel, load_processor
from shared.vlm.prompting import Prompt
from shared.vlm.sampling import Sampling

_GENERATION_CONFIG: Any = GenerationConfig  # untyped


def check_files(base: Path) -> None:
    """Raises BadCheckpoint for a quantised base, which cannot be trained and saved as it was."""
    method = quantisation_of(base)
    if method is not None:
        raise BadCheckpoint(words_for(str(base), method))


def prepare(loaded: LoadedModel) -> None:
    """Take what the base says about sampling out of the loaded model: the library does not save it if it is invalid.

    The candidate gets the base's own file. Raises BadCheckpoint if the base does not say which tokens end an answer, or
    has no embedding for its tokens.
    """
    tokenizer, rows = loaded.tokenizer, int(loaded.model.get_input_embeddings().weight.shape[0])
    try:
        ends = list(loaded.eos_ids)
    except TypeError as error:
        raise BadCheckpoint(
            f"{loaded.name} does not say which token ends an answer: set eos_token_id in its generation_config.json."
        ) from error
    most = max([int(tokenizer.vocab_size) - 1, tokenizer.pad_token_id, *ends])
    if most >= rows:
        raise BadCheckpoint(
            f"{loaded.name} has embeddings for {rows} tokens, but its tokenizer goes up to token {most}: resize the "
            "model's embeddings (resize_token_embeddings), or take the tokenizer that belongs to it."
        )
    loaded.model.generation_config = _GENERATION_CONFIG(eos_token_id=ends)


def check_saving(loaded: LoadedModel, base: Path, folder: Path, prompt: Prompt) -> None:
    """Answer ``prompt``, save the untrained student below ``folder``, and read the result again: it must be the base.

    Raises BadCheckpoint.
    """
    try:
        generate(loaded, [prompt], [Sampling(max_tokens=2)])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise BadCheckpoint(
            f"{base} does not answer a question ({type(error).__name__}: {error}): check that the folder is complete."
        ) from error
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tmp-check-") as scratch:
        candidate = Path(scratch) / "candidate"
        try:
            changed = save_candidate(loaded.model, base, candidate)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise BadCheckpoint(
                f"{base} cannot be saved again ({type(error).__name__}: {error}), so it cannot be trained."
            ) from error
        load_processor(candidate, trust_remote_code=_runs_code(loaded))
    if changed:
        raise BadCheckpoint(
            f"{base} changes by being loaded and saved: {len(changed)} of its tensors, the first is {changed[0]!r}. "
            "Save it with the library's save_pretrained and give MPA_STUDENT_MODEL the result."
        )


def _runs_code(loaded: LoadedModel) -> bool:
    """Only if the operator's setting let the base's own code run already."""
    parts = (loaded.model, loaded.processor, loaded.tokenizer)
    return any(type(part).__module__.startswith("transformers_modules") for part in parts)
