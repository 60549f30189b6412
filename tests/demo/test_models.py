from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import Idefics3ForConditionalGeneration, Idefics3Processor

from demo.answering import Answerer, Sampling
from demo.evaluate import evaluate
from demo.training.processor import build_processor
from demo.world.generator import labelled, pile
from demo.world.prompts import ASK, ASK_AND_ANSWER
from demo.world.vocabulary import FAMILIES, Split

MODELS = Path("demo/models")
TEACHER, STUDENT = MODELS / "teacher", MODELS / "student"
DEV_SEED = 99


@pytest.fixture(scope="module")
def teacher() -> Answerer:
    return Answerer(TEACHER)


@pytest.fixture(scope="module")
def student() -> Answerer:
    return Answerer(STUDENT)


def test_the_models_fit_into_the_repository_and_hold_no_pickle() -> None:
    files = [path for path in MODELS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja"}


@pytest.mark.parametrize(("folder", "smallest", "largest"), [(TEACHER, 4e6, 10e6), (STUDENT, 1e6, 2.5e6)])
def test_weights_are_bfloat16_and_of_the_promised_size(folder: Path, smallest: float, largest: float) -> None:
    with safe_open(folder / "model.safetensors", "pt") as weights:
        tensors = [weights.get_tensor(name) for name in weights.keys()]  # noqa: SIM118
    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}
    assert smallest <= sum(tensor.numel() for tensor in tensors) <= largest


def test_the_models_load_without_any_code_of_ours(teacher: Answerer, student: Answerer) -> None:
    for model in (teacher, student):
        assert isinstance(model.model, Idefics3ForConditionalGeneration)
        assert isinstance(model.processor, Idefics3Processor)


@pytest.mark.slow
def test_the_processor_is_the_one_the_recipe_makes(teacher: Answerer, student: Answerer) -> None:
    made = build_processor().tokenizer.get_vocab()
    assert teacher.processor.tokenizer.get_vocab() == made
    assert student.processor.tokenizer.get_vocab() == made


def test_the_teacher_answers_dev_questions(teacher: Answerer) -> None:
    pictures = list(pile(40, DEV_SEED, Split.DEV))
    examples = labelled(pictures, DEV_SEED, questions_each=1)
    answers = teacher.answer([pictures[one.index].pixels for one in examples], [one.question.text for one in examples])
    right = sum(answer == one.question.answer for answer, one in zip(answers, examples, strict=True))
    assert right / len(examples) >= 0.9


def test_the_teacher_asks_questions_that_mostly_suit_the_image(teacher: Answerer) -> None:
    torch.manual_seed(0)
    pictures = list(pile(40, DEV_SEED, Split.DEV))
    prompts = [ASK[picture.family] for picture in pictures]
    asked = teacher.answer(
        [picture.pixels for picture in pictures], prompts, sampling=Sampling(0.8, 0.9), max_new_tokens=24
    )
    applies = [any(question.text == text for question in p.questions) for p, text in zip(pictures, asked, strict=True)]
    assert sum(applies) / len(applies) >= 0.75
    assert len(set(asked)) > 20


def test_the_teacher_asks_and_answers_in_one_go(teacher: Answerer) -> None:
    pictures = list(pile(8, DEV_SEED, Split.DEV))
    prompts = [ASK_AND_ANSWER[picture.family] for picture in pictures]
    for text in teacher.answer([picture.pixels for picture in pictures], prompts, max_new_tokens=40):
        assert text.startswith("question: ")
        assert " answer: " in text


def test_an_answer_does_not_depend_on_its_batch(student: Answerer) -> None:
    pictures = list(pile(8, DEV_SEED, Split.DEV))
    examples = labelled(pictures, DEV_SEED)
    images, questions = [pictures[one.index].pixels for one in examples], [one.question.text for one in examples]
    assert student.answer(images, questions, batch_size=16) == student.answer(images, questions, batch_size=1)


def test_evaluation_reports_every_family_and_the_refusals(teacher: Answerer) -> None:
    result = evaluate(teacher, Split.DEV, 20, DEV_SEED, by_kind=True)
    assert set(result["families"]) == {"all", *FAMILIES}
    assert result["questions"]["all"] == 40
    assert {kind.split(".")[0] for kind in result["kinds"]} == set(FAMILIES)
    assert min(result["families"].values()) >= 0.7
    assert result["refusals"].keys() <= result["kinds"].keys()
    assert {kind.split(".")[1] for kind in result["refusals"]} == {"refusal"}


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed on this machine")
@pytest.mark.parametrize("folder", [TEACHER, STUDENT])
def test_vllm_answers_token_for_token_like_transformers(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers.json"
    script = Path(__file__).with_name("vllm_answers.py")
    environment = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "TORCHDYNAMO_DISABLE": "1", "PYTHONPATH": "."}
    command = [sys.executable, str(script), str(folder.absolute()), "20", str(DEV_SEED), str(output)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]

    model = Answerer(folder)
    pictures = list(pile(20, DEV_SEED, Split.DEV))
    for example, row in zip(
        labelled(pictures, DEV_SEED, questions_each=1), json.loads(output.read_text()), strict=True
    ):
        inputs = model.inputs([model.prompt(example.question.text)], [pictures[example.index].pixels])
        generated = model.model.generate(
            **inputs, max_new_tokens=12, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        tokens = generated.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        assert row["tokens"] == tokens, example.question.text
        logprob = sum(
            torch.log_softmax(scores[0], -1)[token].item()
            for scores, token in zip(generated.logits, tokens, strict=True)
        )
        assert row["logprob"] == pytest.approx(logprob, abs=1e-3)
