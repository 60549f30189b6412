"""Which files of a checkpoint a running vLLM must already have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from services.student.engines.vllm.files import check_same_start, end_ids, read_start
from shared.errors import BadCheckpoint
from tests.tiny_models import DEMO_STUDENT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(DEMO_STUDENT, tmp_path / "model")


def edit(name: str, change: Callable[[dict[str, object]], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return apply


def test_the_files_that_matter_are_found() -> None:
    assert set(read_start(DEMO_STUDENT)) == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "README.md").write_text("trained on Tuesday"),
        lambda folder: (folder / "mpa_card.json").write_text("{}"),
        lambda folder: (folder / "trainer_state.json").write_text("{}"),
        edit("config.json", lambda config: config.update(transformers_version="9.9", _name_or_path="/elsewhere")),
        edit("tokenizer_config.json", lambda config: config.update(dict(reversed(config.items())))),
    ],
)
def test_what_changes_nothing_may_differ(folder: Path, change: Callable[[Path], object]) -> None:
    change(folder)
    check_same_start(read_start(DEMO_STUDENT), folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "chat_template.jinja").write_text("{{ 1 }}"), r"chat_template\.jinja .*differs"),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"tokenizer\.json .*is missing"),
        (lambda folder: (folder / "added_tokens.json").write_text("{}"), r"added_tokens\.json .*is new"),
        (edit("processor_config.json", lambda config: config.update(image_seq_len=7)), "processor_config"),
        (edit("config.json", lambda config: config["text_config"].update(rope_theta=7.0)), "config"),  # type: ignore[attr-defined]
        (lambda folder: (folder / "tokenizer.json").write_text("no JSON"), r"tokenizer\.json .*differs"),
    ],
)
def test_what_vllm_keeps_from_its_start_may_not(folder: Path, change: Callable[[Path], object], words: str) -> None:
    change(folder)
    with pytest.raises(BadCheckpoint, match=words):
        check_same_start(read_start(DEMO_STUDENT), folder)


def test_end_tokens_are_the_generation_configs_or_the_tokenizers(folder: Path) -> None:
    path = folder / "generation_config.json"
    path.write_text('{"eos_token_id": [3, 5]}')
    assert end_ids(folder, 7) == (3, 5)
    path.write_text('{"eos_token_id": 3}')
    assert end_ids(folder, 7) == (3,)
    path.unlink()
    assert end_ids(folder, 7) == (7,)
