"""What is written for a training process and by it: documented, and read back as it was."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest

import services.trainer.leveler.arguments
import services.trainer.run_config
from services.trainer.run_config import Progress, RunConfig, last_progress, load, read_progress, save
from shared.contracts import TrainSpec
from shared.store import Store
from tests.services.trainer.small_set import run_config

MODULES = (services.trainer.run_config, services.trainer.leveler.arguments)


def undocumented(module: str) -> list[str]:
    """Fields of the classes in ``module`` without a docstring below them."""
    found = []
    for node in ast.walk(ast.parse(module)):
        if not isinstance(node, ast.ClassDef):
            continue
        for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
            documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            if isinstance(statement, ast.AnnAssign) and not documented:
                found.append(f"{node.name}.{ast.unparse(statement.target)}")
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_field_says_what_it_is(module: object) -> None:
    assert undocumented(Path(str(vars(module)["__file__"])).read_text()) == []


def test_a_field_without_a_docstring_is_found() -> None:
    assert undocumented('class A:\n    x: int\n    """Seconds."""\n    y: int\n') == ["A.y"]


def test_the_run_configuration_survives_json(tmp_path: Path, small_set: Store, tiny_student: Path) -> None:
    config = replace(run_config(tmp_path, tiny_student, TrainSpec()), threads=7)
    save(tmp_path / "run.json", config)
    assert load(RunConfig, tmp_path / "run.json") == config
    (tmp_path / "run.json").write_text(json.dumps({"job_id": "x"}))
    assert load(RunConfig, tmp_path / "run.json") is None
    assert load(RunConfig, tmp_path / "nothing.json") is None


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "progress.jsonl"
    assert read_progress(file) == []
    assert last_progress(file) is None
    file.write_text('{"step": 1, "steps": 4, "loss": 2.0}\n{"step": 2, "steps": 4, "loss": 1.5}\n{"step": 3, "st')
    assert read_progress(file) == [Progress(1, 4, 2.0), Progress(2, 4, 1.5)]
    assert last_progress(file) == Progress(2, 4, 1.5)
