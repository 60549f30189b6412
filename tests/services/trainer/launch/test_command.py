"""accelerate's configuration files: ours are good, and bad ones are refused before anything starts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from services.trainer.launch import command as launch
from services.trainer.launch.command import Launch, check_fit, check_reporters, command, read_launch
from services.trainer.worker.__main__ import check_processes, check_reports
from shared.contracts import TrainSpec
from shared.errors import InvalidInput
from shared.settings import TrainerSettings
from shared.store import Store
from tests.services.trainer.small_set import run_config

SHIPPED = Path(launch.__file__).parents[1] / "accelerate"


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "accelerate.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("distributed_type: TPU\n", "distributed_type TPU is not supported"),
        ("distributed_type: MULTI_GPU\nnum_processes: many\n", "num_processes is 'many'"),
        ("distributed_type: MULTI_GPU\nnum_processes: 0\n", "num_processes is 0"),
        ("distributed_type: MULTI_GPU\nnum_processes: 8\nnum_machines: 2\n", "its own machine"),
        ("distributed_type: DEEPSPEED\nnum_processes: 2\n", "pip install deepspeed"),
        ("- a list\n", "is not an accelerate configuration"),
        ("a: [1\n", "cannot be read as YAML"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    file = written(tmp_path, text)
    with pytest.raises(InvalidInput, match=words) as caught:
        read_launch(file)
    assert str(file) in caught.value.detail


def test_a_file_that_does_not_exist_stops_the_worker(tmp_path: Path) -> None:
    settings = TrainerSettings(train_accelerate_config=tmp_path / "none.yaml", train_report_to=[])
    with pytest.raises(InvalidInput, match=r"none\.yaml does not exist"):
        check_processes(settings)


def test_a_reporter_without_its_package_stops_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match="mlflow, whose package is not installed: pip install mlflow"):
        check_reports(TrainerSettings(train_report_to=["mlflow"]))
    check_reporters([])


def test_more_processes_than_the_batch_has_samples_are_refused() -> None:
    two = Launch(Path("x.yaml"), "MULTI_GPU", 2)
    check_fit(two, TrainSpec(batch_size=2))
    with pytest.raises(InvalidInput, match=r"train\.batch_size is 1, but the trainer starts 2 processes"):
        check_fit(two, TrainSpec(batch_size=1))


def test_activations_are_not_checkpointed_twice(tmp_path: Path) -> None:
    text = "distributed_type: FSDP\nnum_processes: 2\nfsdp_config:\n  fsdp_activation_checkpointing: true\n"
    found = read_launch(written(tmp_path, text))
    check_fit(found, TrainSpec())
    with pytest.raises(InvalidInput, match="exclude each other"):
        check_fit(found, TrainSpec(gradient_checkpointing=True))


@pytest.mark.parametrize("name", ["ddp-cpu", "fsdp", "deepspeed-zero2", "deepspeed-zero3"])
def test_what_we_ship_is_understood_by_us_and_by_accelerate(
    tmp_path: Path, small_set: Store, tiny_student: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda name: object())
    file = SHIPPED / f"{name}.yaml"
    assert read_launch(file).processes == 2
    config = replace(run_config(tmp_path, tiny_student, TrainSpec(precision="bf16")), accelerate_config=file)
    line = command(config, "train", Path("run.json"))
    assert line[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    parsed, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(line[3:]))
    assert (parsed.num_processes, parsed.mixed_precision, parsed.main_process_port) == (2, "bf16", 0)
    assert parsed.training_script == "services.trainer.run"
    assert parsed.training_script_args == ["train", "run.json"]
    kinds = {"ddp-cpu": "multi_gpu", "fsdp": "use_fsdp"}
    assert getattr(parsed, kinds.get(name, "use_deepspeed"))
    assert defaults.distributed_type == read_launch(file).kind
    if name.startswith("deepspeed"):
        assert parsed.zero_stage == int(name[-1])


def test_without_a_file_and_for_the_evaluation_there_is_one_process(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    config = run_config(tmp_path, tiny_student, TrainSpec())
    assert command(config, "train", Path("run.json"))[1:] == ["-m", "services.trainer.run", "train", "run.json"]
    shared_out = replace(config, accelerate_config=SHIPPED / "ddp-cpu.yaml")
    assert command(shared_out, "evaluate", Path("run.json"))[2] == "services.trainer.run"
    alone = written(tmp_path, "distributed_type: MULTI_GPU\nnum_processes: 1\n")
    assert command(replace(config, accelerate_config=alone), "train", Path("run.json"))[2] == "services.trainer.run"
