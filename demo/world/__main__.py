"""``python -m demo.world --out DIR --images N --seed S --split train [--labelled]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from demo.world.export import write_benchmark, write_pile
from demo.world.vocabulary import Split


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.world", description="Generate a pile of images.")
    parser.add_argument("--out", type=Path, required=True, help="folder for <family>/<number>.png and the JSONL file")
    parser.add_argument("--images", type=int, required=True, help="number of images, the four families in turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", type=Split, choices=list(Split), default=Split.TRAIN)
    parser.add_argument("--labelled", action="store_true", help="write benchmark.jsonl with questions and answers")
    parser.add_argument("--questions", type=int, default=2, help="questions an image, with --labelled")
    options = parser.parse_args()
    if options.images < 1:
        parser.error("--images must be at least 1")
    if options.labelled:
        path = write_benchmark(options.out, options.images, options.seed, options.split, options.questions)
    else:
        path = write_pile(options.out, options.images, options.seed, options.split)
    print(path)


if __name__ == "__main__":
    main()
