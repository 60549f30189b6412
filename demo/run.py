"""`make demo`: the main job on the embedded models, for real, from start to result table.

Draws a pile of unlabeled images, starts all services, submits one job over REST, shows its progress, keeps asking the
student while it is swapped, and prints the results. Options: ``--seed`` (another pile, other training seed),
``--keep`` (keep the system running), ``--images`` (size of the pile).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.live import Live

from demo.driver.client_load import ClientLoad, LoadResult
from demo.driver.labels import label_accuracy
from demo.driver.result import build_result, print_result, write_result
from demo.driver.system import DemoError, System, refuse_if_running, start
from services.cli.jobs.render import job_panel
from shared.client import ParityClient
from shared.contracts import JobReport, JobState, JobStatus, Pair, Verdict

TASKS = ["chart", "text", "sttext", "know"]
PILE_SEED = 10_000
LATE_STATES = (JobState.EVALUATING, JobState.PROMOTING)


def main() -> int:
    """Run the demo; exit code 0 only if a better checkpoint serves and no request failed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = _arguments()
    console = Console()
    started = time.monotonic()
    data_dir = arguments.data_dir
    try:
        refuse_if_running(data_dir)
        shutil.rmtree(data_dir, ignore_errors=True)
        data_dir.mkdir(parents=True)
        job = yaml.safe_load(Path("demo/job.yaml").read_text())
        count = arguments.images or job.pop("images")
        job.pop("images", None)
        with console.status("drawing the unlabeled images and the held-out test set"):
            _draw(data_dir / "pile", count, seed=PILE_SEED + arguments.seed, split="train", labelled=False)
            _draw(data_dir / "test", arguments.test_images, seed=424_242, split=arguments.split, labelled=True)
        console.print(f"[green]✓[/] {count} unlabeled images in {data_dir / 'pile'}")
        with console.status("starting Redis, teacher (vLLM), student, parity service and trainer"):
            system = start(data_dir)
    except DemoError as error:
        console.print(f"[red]error:[/] {error}")
        return 1
    console.print(f"[green]✓[/] all services ready after {time.monotonic() - started:.0f} s; log: {system.log}")
    try:
        spec = job_spec(job, data_dir, arguments.seed)
        report, kept, load = asyncio.run(_run_job(system, spec, data_dir, console))
        accuracy = label_accuracy(kept, count, PILE_SEED + arguments.seed)
        result = build_result(report, load, seconds=time.monotonic() - started, log=system.log, label_accuracy=accuracy)
        write_result(result, data_dir / "result.json")
        print_result(result, console)
        if arguments.keep:
            _say_kept(system, data_dir, console)
    except DemoError as error:
        console.print(f"[red]error:[/] {error}")
        arguments.keep = False
        return 1
    finally:
        if not arguments.keep:
            system.stop()
    return 0 if result["outcome"] == "promoted" and result["swap"]["failed"] == 0 else 1


def job_spec(job: dict[str, Any], data_dir: Path, seed: int) -> dict[str, Any]:
    """The body of ``POST /v1/jobs``: the demo's settings over a manifest that names images and their task, no
    labels.
    """
    return {
        "name": f"demo seed {seed}",
        "images": {"kind": "manifest", "path": str((data_dir / "pile" / "manifest.jsonl").absolute())},
        "tasks": TASKS,
        "benchmark": str((data_dir / "test" / "benchmark.jsonl").absolute()),
        "seed": seed,
        **job,
    }


async def _run_job(
    system: System, spec: dict[str, Any], data_dir: Path, console: Console
) -> tuple[JobReport, list[Pair], LoadResult]:
    """Submit, follow, and keep asking the student from the start of training until after the swap."""
    probes = sorted((data_dir / "test").glob("*/*.png"))[:32]
    load = ClientLoad(system.endpoints["student"], probes)
    async with ParityClient(system.endpoints["parity"]) as client:
        status = await client.submit(spec)
        console.print(f"[green]✓[/] job {status.id} submitted to {system.endpoints['parity']}/v1/jobs")
        started = False
        with Live(job_panel(status), console=console, refresh_per_second=4, transient=True) as live:
            while not status.state.is_final:
                system.check()
                if status.state is JobState.TRAINING and not started:
                    load.start()
                    started = True
                if status.state in LATE_STATES and started:
                    load.press()
                before = status.state
                status = await client.job(status.id, wait=5, version=status.version)
                live.update(job_panel(status))
                if not console.is_terminal and status.state is not before:
                    console.print(f"  {status.state.value}")
        await asyncio.sleep(1.0 if started else 0.0)
        result = await load.stop()
        _raise_if_failed(status, system)
        return await client.report(status.id), await _kept_pairs(client, status.id), result


async def _kept_pairs(client: ParityClient, job_id: str) -> list[Pair]:
    pairs: list[Pair] = []
    cursor: str | None = None
    while True:
        page = await client.pairs(job_id, verdict=Verdict.DISPARITY.value, cursor=cursor, limit=1000)
        pairs += page.pairs
        cursor = page.next_cursor
        if cursor is None:
            return pairs


def _raise_if_failed(status: JobStatus, system: System) -> None:
    if status.state is not JobState.SUCCEEDED:
        raise DemoError(
            f"Job {status.id} ended {status.state.value}: {status.last_error or status.reason}. See {system.log}."
        )


def _draw(folder: Path, images: int, *, seed: int, split: str, labelled: bool) -> None:
    command = [sys.executable, "-m", "demo.world", "--out", str(folder), "--images", str(images)]
    command += ["--seed", str(seed), "--split", split, *(["--labelled"] if labelled else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise DemoError(f"Drawing images failed: {done.stderr.strip()[-2000:]}")


def _say_kept(system: System, data_dir: Path, console: Console) -> None:
    console.print(f"\nThe system stays up (process {system.process.pid}); stop it with `kill {system.process.pid}`.")
    for name, url in system.endpoints.items():
        if str(url).startswith("http"):
            console.print(f"  {name:<8} {url}")
    console.print(f"Try: MPA_DATA_DIR={data_dir} .venv/bin/mpa jobs")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.run", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED", "0")))
    parser.add_argument("--images", type=int, default=None, help="size of the pile (default: demo/job.yaml)")
    parser.add_argument("--test-images", type=int, default=1000, help="labelled held-out images for the accuracy table")
    parser.add_argument(
        "--split", choices=["test", "dev"], default="test", help="of the labelled images; dev to choose settings by"
    )
    parser.add_argument("--data-dir", type=Path, default=Path(".mpa/demo"))
    parser.add_argument("--keep", action="store_true", default=os.environ.get("KEEP", "") not in ("", "0"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
