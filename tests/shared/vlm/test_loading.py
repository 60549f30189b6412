"""What a loaded model keeps of its folder: nothing that a later change of the files could reach."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shared.vlm.loading import load_model
from tests.tiny_models import build_tiny_idefics3

ANSWER_WITHOUT_FILES = """
import sys
from pathlib import Path
from PIL import Image
from shared.vlm.generation import generate
from shared.vlm.loading import load_model
from shared.vlm.prompting import question_prompt
from shared.vlm.sampling import Sampling

folder = Path(sys.argv[1])
loaded = load_model(folder)
(folder / "model.safetensors").write_bytes(b"")
prompt = question_prompt(loaded, Image.new("RGB", (96, 96), "red"), "what is this?")
print("answered", len(generate(loaded, [prompt], [Sampling(max_tokens=4)])[0].tokens))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return build_tiny_idefics3(tmp_path_factory.mktemp("model"), seed=11)


@pytest.mark.slow
def test_a_weight_file_that_is_truncated_later_harms_nobody(folder: Path, tmp_path: Path) -> None:
    """In a process of its own: the kernel would kill it if weights were still mapped from the file."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    command = [sys.executable, "-c", ANSWER_WITHOUT_FILES, str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, "answered 4" in done.stdout) == (0, True), done.stderr


def test_a_processor_is_shared_between_checkpoints_with_the_same_files(folder: Path, tmp_path: Path) -> None:
    first = load_model(folder)
    same = shutil.copytree(folder, tmp_path / "same")
    (same / "mpa_card.json").write_text("{}")
    assert load_model(same, like=first).processor is first.processor
    changed = shutil.copytree(folder, tmp_path / "changed")
    template = changed / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    other = load_model(changed, like=first)
    assert other.processor is not first.processor
    assert other.processor.chat_template != first.processor.chat_template
