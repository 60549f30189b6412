"""Code that comes with a model is found wherever its configuration names it, and never run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.checkpoints.code import code_files, named_code

MODEL = {"auto_map": {"AutoConfig": "configuration_my.MyConfig", "AutoModel": "modeling_my.MyModel"}}
NAMED = ["config.json: configuration_my.MyConfig", "config.json: modeling_my.MyModel"]


def written(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"config": MODEL}, NAMED),
        (
            {"config": {"text_config": MODEL}},
            ["config.json: configuration_my.MyConfig", "config.json: modeling_my.MyModel"],
        ),
        (
            {"tokenizer_config": {"auto_map": {"AutoTokenizer": ["tokenization_my.Slow", None]}}},
            ["tokenizer_config.json: tokenization_my.Slow"],
        ),
        (
            {"processor_config": {"image_processor": {"auto_map": {"AutoImageProcessor": "image_my.Mine"}}}},
            ["processor_config.json: image_my.Mine"],
        ),
        ({"preprocessor_config": {"auto_map": "image_my.Mine"}}, ["preprocessor_config.json: image_my.Mine"]),
        ({"config": {"auto_map": {"A": "m.X", "B": "m.X"}}}, ["config.json: m.X"]),
        ({"config": {"model_type": "llama"}}, []),
        ({"config": "{ not JSON"}, []),
        ({"config": [MODEL]}, []),
        ({}, []),
    ],
)
def test_every_auto_map_is_found(tmp_path: Path, files: dict[str, Any], found: list[str]) -> None:
    assert named_code(written(tmp_path, **files)) == found


def test_all_python_files_belong_to_a_model_that_names_code(tmp_path: Path) -> None:
    for name in ("modeling_my.py", "parts/layers.py", ".cache/old.py", ".hidden.py", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise AssertionError")
    (tmp_path / "folder.py").mkdir()
    assert code_files(written(tmp_path, config={})) == []
    found = code_files(written(tmp_path, config=MODEL))
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["modeling_my.py", "parts/layers.py"]
