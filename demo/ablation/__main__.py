"""``python -m demo.ablation``: what each part of the method adds on the demo world.

Every seed has a pile of its own, mined once; every arm is trained from it by the trainer's own process, with the same
number of optimiser steps, and tested on the same labelled questions. Results that exist already are not computed again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.console import Console

from demo.ablation.arms import ARMS, NOTHING, Arm, Pairs
from demo.ablation.report import markdown, show, show_labels, summarise
from demo.ablation.running import Settings, one_thread, prepare, run_arm
from demo.ablation.testing import answered_right, questions
from demo.world.vocabulary import Split

MODELS = Path(__file__).resolve().parents[1] / "models"


def main() -> int:
    options = _options()
    settings = Settings(
        out=options.out,
        teacher=options.models / "teacher",
        student=options.models / "student",
        images=options.images,
        questions=options.questions,
        steps=options.steps,
        split=options.split,
        test_images=options.test_images,
    )
    arms = [arm for arm in ARMS if not options.arms or arm.name in (NOTHING, *options.arms)]
    arms += [Arm(name, Pairs(kind), train) for name, kind, train in map(json.loads, options.extra)]
    console = Console(width=150)
    context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads
    with ProcessPoolExecutor(options.processes, context, initializer=one_thread) as pool:
        mined = list(pool.map(prepare, [settings] * len(options.seeds), options.seeds))
        runs = {(arm.name, seed): pool.submit(run_arm, settings, arm, seed) for arm in arms for seed in options.seeds}
        teacher = pool.submit(answered_right, settings.teacher, questions(settings.split, settings.test_images))
        for (name, seed), run in runs.items():
            console.print(f"seed {seed}, {name}: {run.result()['seconds']:.0f} s")
        results = {arm.name: [runs[arm.name, seed].result() for seed in options.seeds] for arm in arms}
        right = {name: [found["right"] for found in seeds] for name, seeds in results.items()}
        summary = summarise(
            right, [int(one) for one in teacher.result()], questions(settings.split, settings.test_images)
        )
    summary |= {"settings": settings.of_arms(), "seeds": options.seeds, "mined": mined}
    summary["rounds"] = {name: [found["rounds"] for found in seeds] for name, seeds in results.items()}
    path = options.out / f"ablation-{settings.split}.json"
    path.write_text(json.dumps(summary, indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(summary))
    show(summary, console)
    show_labels(mined, console)
    console.print(f"Written to {path}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.ablation", description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="*", help="names of arms; all if none is given")
    parser.add_argument(
        "--extra", action="append", default=[], help='one more arm as JSON: ["name", "parity", {"loss": {…}}]'
    )
    parser.add_argument("--images", type=int, default=1500, help="images of a pile")
    parser.add_argument("--questions", type=int, default=2, help="questions an image")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--split", type=Split, choices=[Split.DEV, Split.TEST], default=Split.TEST)
    parser.add_argument("--test-images", type=int, default=600, help="two questions are asked about each")
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(".mpa/ablation"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
