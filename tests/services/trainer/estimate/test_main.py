"""The estimate's command line, and every preset through it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from services.cli.session import read_spec
from services.trainer.estimate.__main__ import main
from shared.contracts import JobSpec
from shared.settings import ParitySettings, StudentSettings, TeacherSettings, TrainerSettings
from shared.vqa.tasks import load_profiles

ROOT = Path(__file__).parents[4]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
SETTINGS = (ParitySettings, StudentSettings, TeacherSettings, TrainerSettings)
COMMAND = re.compile(r"^# +python -m services\.trainer\.estimate (.+)$", re.MULTILINE)


def command(preset: Path) -> list[str]:
    found = COMMAND.search(preset.read_text())
    assert found, f"{preset} says no command that estimates it"
    return found[1].split()


def test_there_is_a_preset_for_each_pair_and_gpu() -> None:
    pairs = {
        "qwen2-vl-7b-to-qwen2-vl-2b",
        "qwen2-vl-7b-to-smolvlm-500m",
        "internvl2-8b-to-internvl2-2b",
        "internvl2-8b-to-internvl2-4b",
        "gpt-4o-to-qwen2-vl-2b",
    }
    assert {path.name for path in PRESETS} == {f"{pair}.{gpu}gb.yaml" for pair in pairs for gpu in (24, 80)}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_a_job_that_fits_its_gpu_as_it_says(
    preset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    spec = JobSpec.model_validate(read_spec(preset))
    assert set(spec.tasks) <= set(load_profiles(None))
    arguments = command(preset)
    assert Path(arguments[arguments.index("--spec") + 1]).resolve() == preset
    gpu = arguments[arguments.index("--gpu") + 1]
    assert preset.name.endswith(f".{gpu.lower()}.yaml")
    assert main(arguments) == 0
    peak = re.search(r"peak +([\d.]+)", capsys.readouterr().out)
    said = re.search(r"# Estimate: ([\d.]+) of (\d+) GB", preset.read_text())
    assert peak and said
    assert float(said[1]) == pytest.approx(float(peak[1]), abs=0.1)
    assert f"{said[2]}GB" == gpu


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_names_settings_that_exist(preset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for line in preset.read_text().splitlines() if line.startswith("#     MPA_")]
    assert len(lines) == 3
    fields = {f"MPA_{name.upper()}" for settings in SETTINGS for name in settings.model_fields}
    for line in lines:
        given = dict(re.findall(r"(MPA_\w+)=(\S+)", line))
        assert given
        assert given.keys() <= fields
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        taken = {name for settings in SETTINGS for name in settings().model_fields_set}
        assert {name.removeprefix("MPA_").lower() for name in given} <= taken
    batch = re.search(r"MPA_EVAL_BATCH_SIZE=(\d+)", lines[2])
    arguments = command(preset)
    assert batch and batch[1] == arguments[arguments.index("--eval-batch-size") + 1]


def small_job(folder: Path, **train: object) -> str:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({"tasks": ["textvqa"], "train": train}))
    return str(path)


def test_too_small_a_gpu_is_said_by_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = small_job(tmp_path, batch_size=8)
    assert main(["--model-config", "qwen2-vl-2b", "--spec", spec, "--gpu", "24GB"]) == 1
    assert "TOO MUCH" in capsys.readouterr().out
    assert main(["--model-config", "qwen2-vl-2b", "--spec", spec, "--gpu", "24GB", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["fits"] is False


def test_cached_features_are_counted_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = small_job(tmp_path, freeze_vision=True)
    main(["--model-config", "smolvlm-500m", "--spec", spec, "--images", "10000"])
    assert "frozen features of 10000 images: 41.8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gpu", "large"], "--gpu large"),
        (["--image-size", "1024"], "--image-size 1024"),
        (["--model-config", "unknown"], "unknown is not a model folder"),
        (["--spec", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_bad_input_is_named(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ["--model-config", "smolvlm-500m", "--spec", small_job(tmp_path)]
    assert main([*usual, *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_spec_with_a_typo_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = small_job(tmp_path, bach_size=8)
    assert main(["--model-config", "smolvlm-500m", "--spec", spec]) == 2
    assert "bach_size" in capsys.readouterr().err
