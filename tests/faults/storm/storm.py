"""``python -m tests.faults.storm.storm``: jobs under random faults, compared with an undisturbed one.

A run submits one job, does a few faults to the system (some at the same time), mends everything, and waits. The job's
set is read from the store alone. Everything random comes from the run's seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from shared.client import ParityClient, StudentClient
from shared.contracts import JobState, JobStatus, Outcome
from shared.errors import MPAError
from shared.sets import read_set, set_digest, shard_numbers
from tests.faults.storm.kinds import Fault, faults_of
from tests.faults.storm.world import LEASE, World

OF_THE_RUN = {"pair_id", "job_id", "prompt_tokens", "completion_tokens", "saved_tokens"}
"""Columns that may differ between two runs: names, and what was asked twice."""
STUCK_SECONDS = 240.0
"""After everything was mended. The longest pause of a shard that waits for a model has to fit in."""
SHARD_SIZE = 3
PAUSE = 0.0, 3.0
OVERLAP = 0.3
"""Share of the faults that begin before the one before has ended."""


@dataclass
class Run:
    """What became of one job. ``recovery``: seconds from the last mending to the next published shard."""

    seed: int
    job_id: str
    faults: list[str] = field(default_factory=list)
    verdict: str = "equal"
    changed: int = 0
    doubled: int = 0
    recovery: float | None = None
    words: str = ""

    def __str__(self) -> str:
        recovered = "" if self.recovery is None else f", recovered in {self.recovery:.1f} s"
        return f"seed {self.seed}: {self.verdict}{recovered} ({', '.join(self.faults)}) {self.words}".rstrip()


@dataclass
class Summary:
    """All runs of a storm."""

    runs: list[Run] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, verdict: str) -> int:
        return sum(run.verdict == verdict for run in self.runs)

    def __str__(self) -> str:
        faults = [name for run in self.runs for name in run.faults]
        recoveries = [run.recovery for run in self.runs if run.recovery is not None]
        recovery = f"{statistics.median(recoveries):.1f} s (longest {max(recoveries):.1f} s)" if recoveries else "none"
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(Counter(faults).items()))
        return (
            f"faults {len(faults)}, runs {len(self.runs)}, equal {self.count('equal')}, "
            f"changed pairs {sum(run.changed for run in self.runs)}, "
            f"doubled pairs {sum(run.doubled for run in self.runs)}, stuck {self.count('stuck')}, "
            f"failed {self.count('failed')}; lease {LEASE:.0f} s, median recovery {recovery}; {self.seconds:.0f} s\n"
            f"by kind: {kinds}"
        )


class Storm:
    """Runs on one world. ``begin`` makes the undisturbed reference."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._digest = ""
        self.outcome: Outcome | None = None
        self._shards = 0
        self._reference: list[dict[str, Any]] = []

    async def begin(self) -> float:
        """Seconds that an undisturbed job takes."""
        started = time.monotonic()
        job_id = await self._submit("calm")
        status = await self._wait(job_id)
        assert status is not None and self._is_over(status), f"the undisturbed job: {status}"
        self.outcome = status.outcome
        self._digest = set_digest(self._world.store, job_id)
        self._reference = read_set(self._world.store, job_id).to_pylist()
        self._shards = len(shard_numbers(self._world.store, job_id))
        return time.monotonic() - started

    def _is_over(self, status: JobStatus) -> bool:
        """Whether a job has come as far as it can come here: to its training, or to its end if there is a trainer."""
        return status.state is (JobState.SUCCEEDED if self._world.training else JobState.TRAINING)

    async def run(self, seed: int, count: int, kinds: Sequence[Fault] = ()) -> Run:
        """One job and ``count`` faults, drawn from ``kinds`` (all that can be made here)."""
        random = Random(seed)
        chosen = [random.choice(list(kinds) or faults_of(self._world)) for _ in range(count)]
        await self._serve_base()
        job_id = await self._submit(f"storm {seed}")
        run = Run(seed, job_id)
        async with asyncio.TaskGroup() as group:
            for fault in chosen:
                await asyncio.sleep(random.uniform(*PAUSE))
                if await asyncio.to_thread(self._is_finished, job_id):
                    break  # a fault would come too late to disturb it
                run.faults.append(fault.__name__)
                going = group.create_task(fault(self._world, Random(random.random())))
                if random.random() > OVERLAP:
                    await going
        await asyncio.to_thread(self._world.heal)
        await self._observe(run)
        return run

    async def _observe(self, run: Run) -> None:
        """Wait for the job's end, and compare."""
        mended = time.monotonic()
        before = len(shard_numbers(self._world.store, run.job_id))
        watching = asyncio.create_task(self._next_shard(run.job_id, before, mended))
        status = await self._wait(run.job_id)
        watching.cancel()
        if watching.done() and not watching.cancelled():
            run.recovery = watching.result()
        if status is None:
            run.verdict, run.words = "stuck", await self._last_words(run.job_id)
        elif not self._is_over(status):
            run.verdict, run.words = "failed", f"{status.state}: {status.last_error or status.reason}"
        elif status.outcome is not self.outcome:
            run.verdict, run.words = "changed", f"{status.outcome}: {status.reason}"
        else:
            self._compare(run)

    def _compare(self, run: Run) -> None:
        rows = read_set(self._world.store, run.job_id).to_pylist()
        run.doubled = max(0, len(rows) - len(self._reference))
        differing = Counter[str]()
        for row, reference in zip(rows, self._reference, strict=False):
            names = [name for name in reference.keys() - OF_THE_RUN if row[name] != reference[name]]
            run.changed += bool(names)
            differing.update(names)
        if run.changed or set_digest(self._world.store, run.job_id) != self._digest:
            reasons = Counter(str(row["reason"])[:80] for row in rows if row["verdict"] == "refused")
            run.verdict, run.words = "changed", f"{dict(differing)} {dict(reasons)}"

    def _is_finished(self, job_id: str) -> bool:
        """As far as the store tells. Blocks."""
        if self._world.training:
            return self._world.store.exists(f"jobs/{job_id}/report.json")
        return len(shard_numbers(self._world.store, job_id)) == self._shards

    async def _serve_base(self) -> None:
        """Take back what the run before has promoted."""
        if not self._world.training:
            return
        deadline = time.monotonic() + STUCK_SECONDS
        while True:
            try:
                async with StudentClient(self._world.student_url, model="student") as student:
                    if (await student.checkpoints()).active != "base":
                        await student.activate("base", "the storm")
                    return
            except MPAError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)

    async def _next_shard(self, job_id: str, before: int, since: float) -> float:
        while len(await asyncio.to_thread(shard_numbers, self._world.store, job_id)) <= before:
            await asyncio.sleep(0.1)
        return time.monotonic() - since

    async def _submit(self, name: str) -> str:
        spec = {
            "name": name,
            "images": {"kind": "folder", "path": str(self._world.pile)},
            "tasks": ["chart"],
            "annotator": {"questions_per_image": 2},
            "identifier": {"votes": 3, "threshold": 0.6},
            "gate": {"held_out_fraction": 0.3, "tolerance": 1.0, "min_questions": 1},
            "train": {"max_steps": 24, "batch_size": 8, "learning_rate": 1e-3, "save_every_steps": 6},
            "shard_size": SHARD_SIZE,
            "seed": 3,
        }
        deadline = time.monotonic() + STUCK_SECONDS
        while True:
            try:
                async with ParityClient(self._world.api_urls[0]) as api:
                    return (await api.submit(spec)).id
            except MPAError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)

    async def _wait(self, job_id: str) -> JobStatus | None:
        """The status of a job that was mined or has ended; None if it is stuck."""
        deadline = time.monotonic() + STUCK_SECONDS
        while time.monotonic() < deadline:
            for url in self._world.api_urls:
                try:
                    async with ParityClient(url, timeout=10) as api:
                        status = await api.job(job_id)
                except MPAError:
                    continue
                if status.state.is_final or self._is_over(status):
                    return status
            await asyncio.sleep(0.2)
        return None

    async def _last_words(self, job_id: str) -> str:
        try:
            async with ParityClient(self._world.api_urls[-1], timeout=10) as api:
                status = await api.job(job_id)
        except MPAError as error:
            return f"no status: {error.detail}"
        return f"{status.state}, {status.shards}, waiting for {status.waiting_for}, last error {status.last_error}"


async def weather(
    folder: Path,
    seeds: Sequence[int],
    count: int,
    kinds: Sequence[str] = (),
    seconds: float = 0,
    training: bool = False,
) -> Summary:
    """A storm with a run for each seed; ``seconds``: no run begins later than this (0: no limit).

    With ``training`` jobs run to their end, with a real trainer and a real student.
    """
    summary, started = Summary(), time.monotonic()
    with World(folder, images=36 if training else 120, training=training) as world:
        storm = Storm(world)
        say(f"undisturbed job: {await storm.begin():.1f} s, {storm.outcome}")
        chosen = [fault for fault in faults_of(world) if not kinds or fault.__name__ in kinds]
        if not world.small_disk:
            say("SKIPPED: a full and a read-only disk, because this process may not mount one.")
        for seed in seeds:
            if seconds and time.monotonic() - started > seconds:
                break
            run = await storm.run(seed, count, chosen)
            summary.runs.append(run)
            say(str(run))
            if run.verdict == "stuck":
                for name in world.programs:
                    say(f"--- {name}\n" + "\n".join((folder / f"{name}.log").read_text().splitlines()[-8:]))
    summary.seconds = time.monotonic() - started
    return summary


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--faults", type=int, default=5, help="faults a run")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first run")
    parser.add_argument("--seconds", type=float, default=0, help="begin no run after this time; 0: no limit")
    parser.add_argument("--kinds", nargs="*", default=[], help="only these kinds of faults")
    parser.add_argument("--training", action="store_true", help="with a real trainer and student, to the jobs' ends")
    parser.add_argument("--folder", type=Path, help="where logs, store and Redis lie; a new one by default")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="mpa-storm-"))
    seeds = range(given.seed, given.seed + given.runs)
    summary = asyncio.run(weather(folder, seeds, given.faults, given.kinds, given.seconds, given.training))
    (folder / "summary.json").write_text(json.dumps([vars(run) for run in summary.runs], indent=1))
    say(f"{summary}\nlogs: {folder}")
    sys.exit(summary.count("equal") != len(summary.runs))


if __name__ == "__main__":
    main()
