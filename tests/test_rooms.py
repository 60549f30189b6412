"""The rooms stay small enough to be read as a list, and each test file is named after the module that it tests."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_MODULES = 12
ACROSS_MODULES = {
    "services/parity/jobs/test_damages.py": "damaged records and files, on every way that reads them",
    "services/parity/mining/test_real_teacher.py": "mining with vLLM: its cache, its grammar, its drain",
    "services/parity/worker/test_outages.py": "a shard through bad minutes of its model servers",
    "services/parity/test_s3_faults.py": "jobs while the S3 server of the store throttles, fails or refuses",
    "services/parity/test_storage_faults.py": "jobs and requests while the disk of the store is in trouble",
    "services/parity/test_tracing.py": "one trace through the API, a worker and the teacher",
    "services/student/rollout/test_fleet.py": "two replicas in processes of their own on one Redis and store",
    "services/test_described_answers.py": "what all services answer, against their OpenAPI documents",
    "services/test_generated_clients.py": "the OpenAPI documents of all services, through clients made from them",
    "services/test_json_logs.py": "the log of every service",
    "services/test_one_trace.py": "one trace through all services",
    "services/test_startup.py": "bad settings of every process",
    "services/trainer/leveler/test_families.py": "every model family through a whole training",
    "services/trainer/worker/test_storage_faults.py": "a whole training while the disk of the store is in trouble",
    "shared/state/test_redis_refusals.py": "state, queue and replicas while Redis is full, read-only or cannot save",
    "shared/store/test_local_faults.py": "store/store.py and store/local.py on a disk in trouble",
    "shared/store/test_remote_credentials.py": "store/remote.py with credentials of every kind",
    "shared/store/test_remote_faults.py": "store/remote.py, sets and checkpoints when S3 fails",
    "shared/store/test_remote_races.py": "store/remote.py, sets and checkpoints with many creators",
    "shared/vlm/test_families.py": "every model family through all modules of shared/vlm",
}
"""Test files that test no single module, and what they test instead."""
NO_LOGIC = (
    "__main__.py",
    "shared/contracts/",
    "shared/errors.py",
    "shared/images/errors.py",
    "services/teacher/engine.py",
)
"""Entry points, models, errors and interfaces: they have a test file only where they decide something."""
TESTED_WITH = {
    "services/cli/benchmark/render.py": "services/cli/benchmark/test_command.py",
    "services/cli/benchmark/serving.py": "services/cli/benchmark/test_command.py",
    "services/cli/checkpoints/command.py": "services/cli/checkpoints/test_canary.py",
    "services/cli/checkpoints/render.py": "services/cli/checkpoints/test_canary.py",
    "services/cli/doctor/deployment.py": "services/cli/doctor/test_services.py",
    "services/cli/doctor/diagnosis.py": "services/cli/doctor/test_command.py",
    "services/cli/gc/inventory.py": "services/cli/gc/test_rules.py",
    "services/cli/jobs/export.py": "services/cli/jobs/test_command.py",
    "services/cli/jobs/watch.py": "services/cli/jobs/test_command.py",
    "services/cli/main.py": "services/cli/jobs/test_command.py",
    "services/cli/session.py": "services/cli/jobs/test_command.py",
    "services/parity/components.py": "services/parity/test_app.py",
    "services/student/api/rollout.py": "services/student/rollout/canary/test_control.py",
    "services/student/engines/checkpoint.py": "services/student/engines/transformers/test_in_place.py",
    "services/student/engines/low_priority.py": "services/student/rollout/test_swap.py",
    "services/student/engines/transformers/loading.py": "services/student/engines/transformers/test_engine.py",
    "services/student/engines/transformers/weights.py": "services/student/engines/transformers/test_in_place.py",
    "services/student/engines/vllm/adapter_check.py": "services/student/engines/vllm/test_adapters.py",
    "services/student/engines/vllm/canary.py": "services/student/engines/vllm/test_adapters.py",
    "services/student/engines/vllm/engine.py": "services/student/engines/test_base.py",
    "services/student/engines/vllm/smoke.py": "services/student/engines/vllm/test_adapters.py",
    "services/student/engines/vllm/wire.py": "services/student/engines/vllm/test_requests.py",
    "services/student/engines/vllm/worker_extension.py": "services/student/engines/vllm/test_adapters.py",
    "services/student/rollout/canary/routing.py": "services/student/rollout/canary/test_control.py",
    "services/trainer/leveler/callbacks/__init__.py": "services/trainer/leveler/test_training.py",
    "services/trainer/leveler/adapter.py": "services/trainer/leveler/test_models.py",
    "services/trainer/leveler/term_inputs.py": "services/trainer/leveler/test_leveler.py",
    "services/trainer/nodes.py": "services/trainer/worker/test_nodes.py",
    "services/trainer/run/evaluate.py": "services/trainer/run/test_main.py",
    "services/trainer/run/inputs.py": "services/trainer/run/test_main.py",
    "shared/checkpoints/adapters.py": "services/trainer/leveler/test_models.py",
    "shared/client/parity.py": "services/parity/test_app.py",
    "shared/client/student.py": "services/student/test_app.py",
    "shared/images/print_colours.py": "shared/images/test_decode.py",
    "shared/images/tables.py": "services/parity/images/test_table_sources.py",
    "shared/images/traffic.py": "services/student/tap/test_pile.py",
    "shared/processes/ports.py": "services/supervisor/test_plan.py",
    "shared/queue/transport.py": "shared/queue/test_worker.py",
    "shared/queue/watchdog.py": "shared/queue/test_worker.py",
    "shared/serving/work.py": "shared/serving/test_batcher.py",
    "shared/vllm/environment.py": "services/teacher/test_vllm_command.py",
    "shared/vllm/literal_server.py": "shared/test_literal.py",
    "shared/vllm/metrics.py": "services/teacher/test_app.py",
    "shared/vllm/probing.py": "shared/vllm/test_server.py",
    "shared/vlm/attention_route.py": "services/teacher/test_app.py",
    "shared/vlm/processors.py": "shared/vlm/test_loading.py",
    "shared/vlm/rows.py": "shared/vlm/test_generation.py",
    "shared/vlm/sampling.py": "shared/vlm/test_generation.py",
    "shared/vlm/scoring.py": "shared/vlm/test_generation.py",
    "shared/vqa/agreement/items.py": "shared/vqa/agreement/test_agree.py",
    "shared/vqa/agreement/meanings.py": "shared/vqa/agreement/test_agree.py",
    "shared/vqa/agreement/numerals.py": "shared/vqa/agreement/test_agree.py",
    "shared/vqa/builtin.py": "shared/vqa/test_tasks.py",
    "shared/vqa/profiles.py": "shared/vqa/test_tasks.py",
    "shared/vqa/reading/refusal_patterns.py": "shared/vqa/reading/test_refusals.py",
    "shared/vqa/reading/refusal_phrases.py": "shared/vqa/reading/test_refusals.py",
    "shared/vqa/reading/tags.py": "shared/vqa/reading/test_replies.py",
    "shared/vqa/task_files.py": "shared/vqa/test_tasks.py",
}
"""Modules without a test file of their own, and the file that tests them: one subject in several modules, or parts that
need the server, the model or the command around them. A new module gets a file of its own instead.
"""


def crowded(root: Path) -> dict[str, int]:
    """Folders below ``services`` and ``shared`` of ``root`` with too many modules, and how many they hold."""
    files = [file for top in ("services", "shared") for file in (root / top).rglob("*.py")]
    counts = Counter(str(file.parent.relative_to(root)) for file in files if file.name != "__init__.py")
    return {folder: count for folder, count in counts.items() if count > MOST_MODULES}


def homeless(root: Path) -> list[str]:
    """Test files below ``tests/services`` and ``tests/shared`` of ``root`` that are named after no module or package.

    ``test_main.py`` tests ``__main__.py``, and ``test_init.py`` tests ``__init__.py``.
    """
    tests = root / "tests"
    files = [file for top in ("services", "shared") for file in (tests / top).rglob("test_*.py")]
    return sorted(str(file.relative_to(tests)) for file in files if not _is_mirrored(root, file.relative_to(tests)))


def untested(root: Path) -> list[str]:
    """Modules below ``services`` and ``shared`` of ``root`` that no test file is named after.

    A package's ``__init__.py`` counts if it defines a function or a class.
    """
    files = sorted(file.relative_to(root) for top in ("services", "shared") for file in (root / top).rglob("*.py"))
    return [str(file) for file in files if _decides(root, file) and not _test_of(root, file).is_file()]


def _decides(root: Path, module: Path) -> bool:
    if module.name == "__init__.py":
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        return any(isinstance(node, kinds) for node in ast.parse((root / module).read_text()).body)
    return not any(str(module).startswith(part) or module.name == part for part in NO_LOGIC)


def _test_of(root: Path, module: Path) -> Path:
    return root / "tests" / module.parent / f"test_{module.stem.strip('_')}.py"


def _is_mirrored(root: Path, test: Path) -> bool:
    name = test.name.removeprefix("test_")
    return any((root / test.parent / module).is_file() for module in (name, f"__{name[:-3]}__.py"))


def test_no_room_holds_more_than_twelve_modules() -> None:
    assert not crowded(ROOT)


def test_a_crowded_room_is_found(tmp_path: Path) -> None:
    room = tmp_path / "shared" / "attic"
    room.mkdir(parents=True)
    for number in range(MOST_MODULES):
        (room / f"module_{number}.py").touch()
    (room / "__init__.py").touch()
    assert not crowded(tmp_path)
    (room / "one_too_many.py").touch()
    assert crowded(tmp_path) == {"shared/attic": MOST_MODULES + 1}


def test_every_test_file_is_named_after_its_module() -> None:
    assert set(homeless(ROOT)) == ACROSS_MODULES.keys()


def test_test_files_without_a_module_are_found(tmp_path: Path) -> None:
    room = tmp_path / "shared" / "state"
    room.mkdir(parents=True)
    for module in ("__init__.py", "__main__.py", "jobs.py"):
        (room / module).touch()
    for file in ("test_init.py", "test_main.py", "test_jobs.py", "played.py", "test_job.py"):
        _touch(tmp_path / "tests" / "shared" / "state" / file)
    _touch(tmp_path / "tests" / "services" / "parity" / "loft" / "test_main.py")
    assert homeless(tmp_path) == ["services/parity/loft/test_main.py", "shared/state/test_job.py"]


def test_every_module_has_a_test_file() -> None:
    assert set(untested(ROOT)) == TESTED_WITH.keys()
    assert [test for test in TESTED_WITH.values() if not (ROOT / "tests" / test).is_file()] == []


def test_modules_without_a_test_file_are_found(tmp_path: Path) -> None:
    room = tmp_path / "shared" / "attic"
    for name, text in (("__init__.py", "import os"), ("__main__.py", ""), ("box.py", ""), ("chest.py", "")):
        _touch(room / name).write_text(text)
    _touch(tmp_path / "shared" / "contracts" / "chest.py")
    _touch(tmp_path / "shared" / "cellar" / "__init__.py").write_text("def find(): ...")
    _touch(tmp_path / "tests" / "shared" / "attic" / "test_box.py")
    assert untested(tmp_path) == ["shared/attic/chest.py", "shared/cellar/__init__.py"]
    _touch(tmp_path / "tests" / "shared" / "attic" / "test_chest.py")
    _touch(tmp_path / "tests" / "shared" / "cellar" / "test_init.py")
    assert untested(tmp_path) == []


def _touch(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    return file


def test_tests_of_the_whole_system_lie_where_make_test_runs_them() -> None:
    marked = [
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "tests").rglob("test_*.py")
        if re.search(r"\bmark\.(?:e2e|fault)\b", file.read_text())
    ]
    assert [file for file in marked if not file.startswith(("tests/e2e/", "tests/faults/"))] == []
    assert len(marked) >= 4
