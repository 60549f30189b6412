from __future__ import annotations

import itertools
from pathlib import Path

import yaml

from demo.world.generator import pile
from demo.world.prompts import ASK, ASK_AND_ANSWER, EXPLAIN
from demo.world.vocabulary import FAMILIES, REFUSAL, Split
from shared.vqa.answers import match
from shared.vqa.tasks import load_profiles

DEMO_TASKS = Path("demo/tasks.yaml")


def test_the_task_file_offers_the_prompts_that_the_teacher_was_trained_on() -> None:
    tasks = yaml.safe_load(DEMO_TASKS.read_text())["tasks"]
    assert [task["name"] for task in tasks] == list(FAMILIES)
    for task in tasks:
        assert task["prompts"]["ask"] == ASK[task["name"]]
        assert task["prompts"]["ask_and_answer"] == ASK_AND_ANSWER[task["name"]]
        assert task["prompts"]["answer"] == "{question}"
        assert task["prompts"]["explain"] == EXPLAIN
        assert task["refusals"] == [REFUSAL]


def test_different_answers_of_the_demo_never_agree() -> None:
    """The demo's figures are those of exact match, so agreement must tell apart whatever its world tells apart."""
    profiles = load_profiles(DEMO_TASKS)
    asked: dict[str, dict[str, str]] = {family: {} for family in FAMILIES}
    for picture in pile(80, 0, Split.TEST):
        asked[picture.family] |= {question.answer: question.text for question in picture.questions}
    for family, answers in asked.items():
        assert len(answers) > 20
        for (one, question), other in itertools.product(answers.items(), answers):
            assert match(other, one, mode="task", rule=profiles[family].rule, question=question) is (one == other)
