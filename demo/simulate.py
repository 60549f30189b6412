"""The job's loop in one process, without services or queues: a development tool for choosing the job's settings.

Trains on a pile of the train split and reports on the dev split; the test split is never touched. The numbers in
``docs/demo.md`` come from the real services, not from here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from demo.answering import Answerer
from demo.evaluate import evaluate
from demo.simulation.learn import Settings, learn
from demo.simulation.pairs import draw_pile, identify, label_accuracy, load_or_annotate
from demo.world.vocabulary import Split

DEV_SEED = 4242


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    pictures = draw_pile(options.images, options.pile_seed)
    teacher, student = Answerer(options.teacher), Answerer(options.student)
    pairs = load_or_annotate(options.cache, teacher, pictures, options.questions, options.seed)
    disagreeing, agreeing = identify(teacher, student, pictures, pairs, options.votes)
    disparity = [pair for pair in disagreeing if pair.vote_share >= options.threshold]
    print(json.dumps({"pairs": len(pairs), "agreeing": len(agreeing), "disparity": len(disparity)}), flush=True)
    print(
        json.dumps(
            {
                "label_accuracy": label_accuracy(pictures, disparity),
                "before_vote": label_accuracy(pictures, disagreeing),
                "replay": label_accuracy(pictures, agreeing),
            }
        ),
        flush=True,
    )
    before = evaluate(student, Split.DEV, options.dev_images, DEV_SEED, by_kind=True)
    print("before", json.dumps(before["families"]), flush=True)
    for text in options.settings or ["{}"]:
        settings = Settings(**json.loads(text))
        candidate = Answerer(options.student)
        seconds = learn(candidate, pictures, disparity, agreeing, settings, options.seed)
        after = evaluate(candidate, Split.DEV, options.dev_images, DEV_SEED, by_kind=True)
        gains = {key: round(after["families"][key] - value, 3) for key, value in before["families"].items()}
        print(f"{settings} {seconds:.0f} s", json.dumps(after["families"]), "gain", json.dumps(gains), flush=True)
        if options.kinds:
            print(json.dumps({kind: [share, after["kinds"][kind]] for kind, share in before["kinds"].items()}))
        if options.save:
            candidate.model.save_pretrained(options.save)
            candidate.processor.save_pretrained(options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.simulate", description=__doc__)
    parser.add_argument("--teacher", type=Path, default=Path("demo/models/teacher"))
    parser.add_argument("--student", type=Path, default=Path("demo/models/student"))
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--questions", type=int, default=3, help="questions an image")
    parser.add_argument("--votes", type=int, default=3)
    parser.add_argument("--threshold", type=float, default=0.66)
    parser.add_argument("--pile-seed", type=int, default=31_337)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dev-images", type=int, default=600)
    parser.add_argument("--cache", type=Path, default=Path(".mpa/simulation/pairs.json"))
    parser.add_argument("--settings", action="append", help='JSON, e.g. {"learning_rate": 1e-3}; may be repeated')
    parser.add_argument("--kinds", action="store_true", help="also print accuracy before and after by kind")
    parser.add_argument("--save", type=Path, help="save the trained student here")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
