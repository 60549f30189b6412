"""The ``know`` family: one to four copies of a thing; most answers need knowledge that is not in the pixels."""

from __future__ import annotations

from random import Random

from demo.world.canvas import Canvas, sprite
from demo.world.pictures import Picture, Question, combination_split
from demo.world.vocabulary import SIDE, THING_NAMES, THINGS, Split, Thing

SIZES = (40, 48, 56, 64)
SMALL = 38
"""Size of a thing that shares the image with copies of itself."""
COPIES_SHARE = 0.25
QUARTERS = ((0, 0), (48, 0), (0, 48), (48, 48))


def draw_thing(rng: Random, split: Split) -> Picture:
    """Things whose name, size, mirroring and background belong to ``split``."""
    while True:
        name, mirrored, scenic = rng.choice(THING_NAMES), rng.random() < 0.5, rng.random() < 0.6
        count = rng.randint(2, 4) if rng.random() < COPIES_SHARE else 1
        size = rng.choice(SIZES) if count == 1 else SMALL + count
        if combination_split(THING_NAMES.index(name), size, int(mirrored), int(scenic)) == split:
            break
    canvas = Canvas.scene(rng) if scenic else Canvas.plain(rng)
    drawing = sprite(name, size if count == 1 else SMALL, mirrored)
    if count == 1:
        corners = [(rng.randint(2, SIDE - 2 - drawing.width), rng.randint(2, SIDE - 2 - drawing.height))]
    else:
        corners = [
            (x + rng.randint(2, 46 - drawing.width), y + rng.randint(2, 46 - drawing.height))
            for x, y in rng.sample(QUARTERS, count)
        ]
    for corner in corners:
        canvas.paste_thing(name, drawing, corner)
    return Picture("know", canvas.pixels(), tuple(_questions(name, THINGS[name], count)), canvas.dense)


def _questions(name: str, thing: Thing, count: int) -> list[Question]:
    def yes(condition: bool) -> str:
        return "yes" if condition else "no"

    questions = [
        Question("what is this?", name, "know.name"),
        Question("how many objects are there?", str(count), "know.count"),
        Question("can you eat this?", yes(thing.group == "food"), "know.edible"),
        Question("is it alive?", yes(thing.group == "animal"), "know.alive"),
        Question("can it fly?", yes(thing.flies), "know.flies"),
    ]
    if thing.group == "animal":
        questions += [
            Question("what kind of animal is this?", thing.kind, "know.animal_kind"),
            Question("where does it live?", thing.habitat, "know.habitat"),
            Question("what does it eat?", thing.diet, "know.diet"),
            Question("how many legs does it have?", str(thing.legs), "know.legs"),
        ]
    if thing.group == "food":
        questions += [
            Question("what kind of food is this?", thing.kind, "know.food_kind"),
            Question("how does it taste?", thing.taste, "know.taste"),
        ]
    if thing.group == "vehicle":
        questions.append(Question("where does it travel?", thing.travels, "know.travels"))
    if thing.group == "instrument":
        questions.append(Question("what kind of instrument is this?", thing.kind, "know.instrument_kind"))
    if thing.use:
        questions.append(Question("what is it used for?", thing.use, "know.use"))
    return questions
