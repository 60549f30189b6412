from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, Idefics3Processor

from demo.training import forward
from demo.training.architecture import STUDENT, Size, build_model
from demo.training.batches import make_batch
from demo.training.optimizer import orthogonalise
from demo.training.packing import IGNORE, PREFIX, Packer, normalise
from demo.training.processor import build_processor
from demo.training.recipe import NEVER_TAUGHT, RECIPES, Recipe, Stage
from demo.training.train import Training, soften_attention
from demo.training.words import link_words
from demo.world.generator import pile
from demo.world.prompts import ASK, ASK_AND_ANSWER
from demo.world.vocabulary import REFUSAL, THING_NAMES, WORDS, Split

TINY = Size(64, 1, 1, 64, 64, 1, 1, 64)
STUDENT_RECIPE = next(recipe for recipe in RECIPES if recipe.name == "student")
TEACHER_RECIPE = next(recipe for recipe in RECIPES if recipe.name == "teacher")


@pytest.fixture(scope="module")
def processor() -> Idefics3Processor:
    return build_processor()


def test_words_of_the_world_are_single_tokens(processor: Idefics3Processor) -> None:
    for word in (*WORDS, *(name for name in THING_NAMES if " " not in name), REFUSAL):
        assert len(processor.tokenizer(word)["input_ids"]) == 1, word


def test_rationales_are_words_that_the_tokenizer_knows_whole(processor: Idefics3Processor) -> None:
    seen = {word for picture in pile(200, 4, Split.TRAIN) for q in picture.questions for word in q.rationale.split()}
    for word in seen:
        assert word.isdigit() or len(processor.tokenizer(f" {word}")["input_ids"]) == 1, word


def test_the_fast_forward_is_transformers_forward(processor: Idefics3Processor, tmp_path: Path) -> None:
    build_model(STUDENT, processor, 0).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).eval()
    loaded = AutoProcessor.from_pretrained(tmp_path)
    (picture,) = pile(1, 3, Split.DEV)
    rows = [(question.text, question.answer) for question in picture.questions[:4]]
    packed = Packer(loaded.tokenizer).pack([rows])
    with torch.no_grad():
        features = forward.vision(model, normalise(picture.pixels[None]))
        ours = forward.logits(model, forward.language(model, features, packed))[0]
    start = PREFIX
    for question, answer in rows:
        user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
        text = loaded.apply_chat_template([user, {"role": "assistant", "content": answer}])
        inputs = loaded(text=text, images=Image.fromarray(picture.pixels), return_tensors="pt")
        with torch.no_grad():
            theirs = model(**inputs).logits[0]
        length = len(theirs) - PREFIX
        torch.testing.assert_close(ours[start : start + length], theirs[PREFIX:], atol=1e-4, rtol=1e-4)
        start += length


def test_packed_targets_are_the_answers(processor: Idefics3Processor) -> None:
    packed = Packer(processor.tokenizer).pack(
        [[("what is this?", "dog"), ("can it fly?", "no")], [("is it alive?", "yes")]]
    )
    spoken = [processor.tokenizer.decode(row[row != IGNORE]) for row in packed.targets]
    assert spoken == ["dog<end_of_utterance>no<end_of_utterance>", "yes<end_of_utterance>"]


def test_batches_depend_on_step_and_process_only() -> None:
    stage = replace(TEACHER_RECIPE.stages[1], batch=4)
    one, again = make_batch(TEACHER_RECIPE, stage, 5, 0), make_batch(TEACHER_RECIPE, stage, 5, 0)
    assert torch.equal(one.pixels, again.pixels)
    assert one.rows == again.rows
    assert not torch.equal(one.pixels, make_batch(TEACHER_RECIPE, stage, 5, 1).pixels)
    assert not torch.equal(one.pixels, make_batch(TEACHER_RECIPE, stage, 6, 0).pixels)


def test_the_teacher_learns_to_ask_and_to_refuse() -> None:
    stage = TEACHER_RECIPE.stages[1]
    rows = [pair for step in range(4) for row in make_batch(TEACHER_RECIPE, stage, step, 0).rows for pair in row]
    prompts = {prompt for prompt, _ in rows}
    assert prompts >= {*ASK.values(), *ASK_AND_ANSWER.values()}
    assert 0.03 < sum(answer == REFUSAL for _, answer in rows) / len(rows) < 0.15


@pytest.mark.parametrize("stage", STUDENT_RECIPE.stages[1:])
def test_the_student_never_sees_what_it_was_not_taught(stage: Stage) -> None:
    kinds = {q.text: q.kind for picture in pile(400, 11, Split.TRAIN) for q in picture.questions}
    batches = [make_batch(STUDENT_RECIPE, stage, step, 0) for step in range(4)]
    prompts = {prompt for batch in batches for row in batch.rows for prompt, _ in row}
    seen = {kinds[prompt] for prompt in prompts if prompt in kinds}
    assert len(seen) >= 15
    assert not seen & NEVER_TAUGHT


def test_orthogonalised_updates_are_nearly_orthogonal() -> None:
    torch.manual_seed(0)
    solved = orthogonalise(torch.randn(3, 16, 48))
    singular = torch.linalg.svdvals(solved)
    assert singular.min() > 0.5
    assert singular.max() < 1.4


def test_the_rate_warms_up_holds_and_ends_at_nothing() -> None:
    stage = Stage("joint", steps=100, warmup=10, hold=50, rate=0.7, dense_until=50)
    assert stage.rate_factor(4) == pytest.approx(0.35)
    assert stage.rate_factor(30) == pytest.approx(0.7)
    assert stage.rate_factor(74) == pytest.approx(0.35)
    assert stage.rate_factor(99) == 0.0
    assert stage.dense_factor(25) == pytest.approx(0.15)
    assert stage.dense_factor(60) == 0.0


def test_linked_words_share_the_meaning_of_the_answer(processor: Idefics3Processor) -> None:
    embedding = torch.randn(len(processor.tokenizer), 4)
    before = embedding.clone()
    link_words(embedding, processor.tokenizer)
    answer, question = (processor.tokenizer(text)["input_ids"][0] for text in ("red", " red"))
    assert answer != question
    assert torch.equal(embedding[question], before[question] + before[answer])
    assert torch.equal(embedding[answer], before[answer])


def test_softened_attention_scales_the_queries_of_the_language_model_only() -> None:
    names = (
        "model.text_model.layers.0.self_attn.q_proj.weight",
        "model.vision_model.encoder.layers.0.self_attn.q_proj.weight",
    )
    masters = {name: torch.full((2, 2), 1.5) for name in names}
    soften_attention(masters, 0.5)
    assert [masters[name][0, 0].item() for name in names] == [0.75, 1.5]


def test_the_explain_stage_teaches_the_reasons_of_answers() -> None:
    stage = replace(TEACHER_RECIPE.stages[-1], batch=4)
    assert stage.explained
    whys = [
        (p, said) for row in make_batch(TEACHER_RECIPE, stage, 3, 0).rows for p, said in row if p.startswith("why ")
    ]
    assert len(whys) == 4 * stage.explained
    assert all(len(said.split()) >= 3 for _, said in whys)
    assert not STUDENT_RECIPE.stages[-1].explained


@pytest.mark.slow
def test_the_last_stage_starts_from_finished_weights(
    processor: Idefics3Processor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Training, "_report", lambda self, stage, step: self._export())
    finished = build_model(TINY, processor, 7).to(torch.bfloat16)
    finished.save_pretrained(tmp_path / "finished")
    stages = (Stage("joint", 3, 1, 3, batch=2), Stage("explain", 1, 1, 1, batch=2, rate=0.0, explained=1, rounded=True))
    training = Training(Recipe("teacher", TINY, 0, stages), 0, tmp_path / "work", tmp_path / "model", processes=1)
    training.start_last_stage(tmp_path / "finished")
    training.run()
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("finished", "model"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = (
        Stage("warm", 2, 1, 2, batch=2),
        Stage("joint", 4, 1, 4, batch=2, dense_until=4),
        Stage("focus", 2, 1, 1, batch=2, link_words=True, soften=0.5),
    )
    recipe = Recipe("student", TINY, 0, stages, save_every=2, evaluate_every=100)
    monkeypatch.setattr(Training, "_report", lambda self, stage, step: self._export())
    Training(recipe, 0, tmp_path / "whole", tmp_path / "whole-model", processes=1).run()
    whole = load_file(tmp_path / "whole-model" / "model.safetensors")
    real = Training._loss

    class Killed(Exception):
        pass

    for name, at in (("joint", 3), ("focus", 0)):

        def fails(self: Training, stage: Stage, step: int, name: str = name, at: int = at) -> torch.Tensor:
            if (stage.name, step) == (name, at):
                raise Killed
            return real(self, stage, step)

        monkeypatch.setattr(Training, "_loss", fails)
        with pytest.raises(Killed):
            Training(recipe, 0, tmp_path / name, tmp_path / f"{name}-model", processes=1).run()
        monkeypatch.setattr(Training, "_loss", real)
        Training(recipe, 0, tmp_path / name, tmp_path / f"{name}-model", processes=1).run()
        resumed = load_file(tmp_path / f"{name}-model" / "model.safetensors")
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[tensor], resumed[tensor]) for tensor in whole)
