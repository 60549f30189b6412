"""Nothing in shared.vlm is made for Idefics3 alone: the same promises hold for a (tiny, random) LLaVA."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from shared.vlm.generation import generate
from shared.vlm.loading import load_model
from shared.vlm.prompting import encode, question_prompt
from shared.vlm.sampling import Sampling
from shared.vlm.scoring import token_logprobs
from tests.tiny_models import build_tiny_llava


def test_llava_answers_in_batches_and_scores_what_it_said(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    loaded = load_model(build_tiny_llava(tmp_path))
    images = [Image.effect_noise((40 + 9 * n, 50), 60 + n).convert("RGB") for n in range(3)]
    prompts = [question_prompt(loaded, image, "what is this" + " and why" * n) for n, image in enumerate(images)]
    samplings = [Sampling(6), Sampling(6, temperature=1.0, seed=1), Sampling(4)]
    together = generate(loaded, prompts, samplings)
    ids = [[token.id for token in answer.tokens] for answer in together]
    assert all(ids)
    scored = token_logprobs(loaded, [encode(loaded, prompt) for prompt in prompts], ids)
    for prompt, sampling, answer, scores in zip(prompts, samplings, together, scored, strict=True):
        logprobs = [token.logprob for token in answer.tokens]
        alone = generate(loaded, [prompt], [sampling])[0]
        assert alone.text == answer.text
        assert [token.logprob for token in alone.tokens] == pytest.approx(logprobs, abs=1e-4)
        assert scores == pytest.approx(logprobs, abs=1e-4)
