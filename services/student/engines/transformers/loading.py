"""Load a checkpoint for serving, and refuse one that must not serve."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from services.student.engines.checkpoint import check_answer, check_finite
from shared.checkpoints import SMOKE_TOKENS
from shared.contracts import SmokeAnswer
from shared.images import ImageLimits, decode_image, from_data_url
from shared.settings import StudentSettings
from shared.vlm.generation import generate_encoded
from shared.vlm.loading import LoadedModel, load_model
from shared.vlm.prompting import encode, question_prompt
from shared.vlm.sampling import Sampling

WARM_UP_ROWS = (1, 2, 5)


def load_checked(
    settings: StudentSettings, folder: Path, smoke: SmokeAnswer | None, like: LoadedModel | None = None
) -> LoadedModel:
    """The model in ``folder``. Raises BadCheckpoint unless its weights are finite and it gives the recorded answer.

    The processor of ``like`` is shared if the files are the same.
    """
    torch.set_num_threads(settings.torch_threads)  # counts for this thread only
    loaded = load_model(
        folder,
        dtype=settings.student_dtype,
        device=settings.student_device,
        trust_remote_code=settings.trust_remote_code,
        like=like,
    )
    # In the dtype it serves in: a weight that fits bfloat16 may be infinite in float16.
    check_finite(folder, loaded.model.state_dict().items())
    if settings.student_compile:
        loaded.model.compile(dynamic=True)
        _warm_up(loaded)
    if smoke is not None:
        check_smoke(loaded, smoke, folder, exact=settings.student_dtype == "float32")
    return loaded


def check_smoke(loaded: LoadedModel, smoke: SmokeAnswer, folder: Path, *, exact: bool) -> None:
    """Ask the card's question. ``exact``: the answer was recorded with this dtype, so it must be the same.

    Raises BadCheckpoint.
    """
    image = decode_image(from_data_url(f"data:image/png;base64,{smoke.image_png_base64}"), ImageLimits())
    encoded = encode(loaded, question_prompt(loaded, image, smoke.question))
    answer = generate_encoded(loaded, [encoded], [Sampling(max_tokens=SMOKE_TOKENS)])[0].text
    if exact:
        check_answer(folder, smoke, answer)


def _warm_up(loaded: LoadedModel) -> None:
    """Compile before requests wait. One graph is made for a single row, and one for any number of rows."""
    encoded = encode(loaded, question_prompt(loaded, Image.new("RGB", (64, 64), "grey"), "what is this?"))
    for rows in WARM_UP_ROWS:
        generate_encoded(loaded, [encoded] * rows, [Sampling(max_tokens=3)] * rows)
