from __future__ import annotations

from pathlib import Path

import yaml

from demo.world.prompts import ASK, ASK_AND_ANSWER, EXPLAIN
from demo.world.vocabulary import FAMILIES, REFUSAL


def test_the_task_file_offers_the_prompts_that_the_teacher_was_trained_on() -> None:
    tasks = yaml.safe_load(Path("demo/tasks.yaml").read_text())["tasks"]
    assert [task["name"] for task in tasks] == list(FAMILIES)
    for task in tasks:
        assert task["prompts"]["ask"] == ASK[task["name"]]
        assert task["prompts"]["ask_and_answer"] == ASK_AND_ANSWER[task["name"]]
        assert task["prompts"]["answer"] == "{question}"
        assert task["prompts"]["explain"] == EXPLAIN
        assert task["refusals"] == [REFUSAL]
