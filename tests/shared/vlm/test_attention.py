"""Attention maps against weights put there by hand, and on the demo's student, which looks where the answer is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from shared.errors import InvalidInput
from shared.vlm.attention import image_attention, lay_out, load_probe, probed_layers
from shared.vlm.loading import LoadedModel, load_model
from shared.vlm.prompting import Prompt, answer_ids, collate, encode, question_prompt
from shared.vlm.scoring import extended
from tests.scoring import score_answers
from tests.tiny_models import DEMO_STUDENT, build_tiny_llava


@pytest.fixture(scope="module")
def student() -> LoadedModel:
    torch.set_num_threads(1)
    return load_probe(DEMO_STUDENT, dtype="float32", device="cpu")


def half_red(side: str) -> Image.Image:
    image = Image.new("RGB", (96, 96), "white")
    image.paste((220, 30, 30), {"left": (0, 0, 48, 96), "right": (48, 0, 96, 96)}[side])
    return image


def test_the_last_half_of_the_layers_counts() -> None:
    assert probed_layers(4) == [2, 3] and probed_layers(1) == [0] and probed_layers(7) == [3, 4, 5, 6]


@pytest.mark.parametrize("grid", [1, 5, 8, 16])
def test_a_map_is_a_distribution(student: LoadedModel, grid: int) -> None:
    found = image_attention(student, question_prompt(student, half_red("left"), "what is this?"), "red", grid)
    assert found.values.shape == (grid, grid) and found.values.dtype == torch.float32
    assert float(found.values.sum()) == pytest.approx(1, abs=1e-5) and float(found.values.min()) >= 0
    assert 0 < found.image_share < 1


def test_a_map_is_the_sum_over_the_positions_that_predict_the_answer(student: LoadedModel) -> None:
    prompt, answer = question_prompt(student, half_red("left"), "what is written on the sign?"), "red cat"
    encoded, ids = encode(student, prompt), answer_ids(student, prompt, answer)
    features = collate(student, [extended(encoded, ids)])
    with torch.no_grad():
        weights = student.model(**features, output_attentions=True, use_cache=False).attentions
    image = (features["input_ids"][0] == student.model.config.image_token_id).nonzero()[:, 0]
    total = torch.zeros(len(image))
    for layer in probed_layers(len(weights)):
        for head in weights[layer][0]:
            for place in range(len(ids) - 1):
                total += head[encoded.length - 1 + place, image]
    found = image_attention(student, prompt, answer, 8).values.flatten()
    assert found.tolist() == pytest.approx((total / total.sum()).tolist(), abs=1e-5)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 5), (7, 7)])
def test_rows_and_columns_lie_as_in_the_image(student: LoadedModel, row: int, column: int) -> None:
    weights = torch.zeros(64)
    weights[8 * row + column] = 1
    assert lay_out(student, weights, {})[row, column] == 1
    merged = {"image_grid_thw": torch.tensor([[1, 16, 4]])}
    assert lay_out(student, weights, merged)[(8 * row + column) // 4, column % 4] == 1


def test_tokens_in_no_known_order_are_refused(student: LoadedModel) -> None:
    with pytest.raises(InvalidInput, match="do not form a square"):
        lay_out(student, torch.ones(63), {})


def test_another_family(tmp_path: Path) -> None:
    llava = load_probe(build_tiny_llava(tmp_path), dtype="float32", device="cpu")
    found = image_attention(llava, question_prompt(llava, half_red("right"), "what is this?"), "red", 4)
    assert found.values.shape == (4, 4) and float(found.values.sum()) == pytest.approx(1, abs=1e-5)


def test_eager_attention_says_the_same_as_the_serving_kind(student: LoadedModel) -> None:
    serving = load_model(DEMO_STUDENT)
    prompt = question_prompt(serving, half_red("left"), "what is this?")
    (found,), (wanted,) = (score_answers(model, [prompt], [["red"]]) for model in (student, serving))
    assert found[0].logprobs == pytest.approx(wanted[0].logprobs, abs=1e-4)


def test_two_images_are_refused(student: LoadedModel) -> None:
    prompt = question_prompt(student, half_red("left"), "what is this?")
    with pytest.raises(InvalidInput, match="this prompt has 2"):
        image_attention(student, Prompt(prompt.text, prompt.images * 2, prompt.turns), "red", 8)
