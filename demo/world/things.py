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
_GROUPS = {
    "animal": "an animal",
    "food": "food",
    "tool": "an object",
    "vehicle": "for transport",
    "instrument": "an instrument",
}
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

    group = f"{name} is {_GROUPS[thing.group]}"
    kind = f"{name} is {_a(thing.kind)}"
    use = f"{name} is used for {thing.use}"
    shown = f"it has {count} {name} object{'' if count == 1 else 's'}"
    questions = [
        Question("what is this?", name, "know.name", _essence(name, thing)),
        Question("how many objects are there?", str(count), "know.count", shown),
        Question("can you eat this?", yes(thing.group == "food"), "know.edible", group),
        Question("is it alive?", yes(thing.group == "animal"), "know.alive", group),
        Question(
            "can it fly?", yes(thing.flies), "know.flies", f"{name} can fly" if thing.flies else f"no {name} can fly"
        ),
    ]
    if thing.group == "animal":
        questions += [
            Question("what kind of animal is this?", thing.kind, "know.animal_kind", kind),
            Question("where does it live?", thing.habitat, "know.habitat", f"{name} has the {thing.habitat} for home"),
            Question(
                "what does it eat?",
                thing.diet,
                "know.diet",
                f"{name} is {_a(thing.kind)} and has {thing.diet} for food",
            ),
            Question("how many legs does it have?", str(thing.legs), "know.legs", f"{name} has {thing.legs} legs"),
        ]
    if thing.group == "food":
        questions += [
            Question("what kind of food is this?", thing.kind, "know.food_kind", kind),
            Question("how does it taste?", thing.taste, "know.taste", f"{name} has a {thing.taste} taste"),
        ]
    if thing.group == "vehicle":
        where = f"{name} is for travel on the {thing.travels}"
        questions.append(Question("where does it travel?", thing.travels, "know.travels", where))
    if thing.group == "instrument":
        sound = f"{name} is {_a(thing.kind)} instrument"
        questions.append(Question("what kind of instrument is this?", thing.kind, "know.instrument_kind", sound))
    if thing.use:
        questions.append(Question("what is it used for?", thing.use, "know.use", use))
    return questions


def _essence(name: str, thing: Thing) -> str:
    """What sets ``name`` apart from most other things."""
    if thing.group == "animal":
        return f"{name} is {_a(thing.kind)} and has the {thing.habitat} for home"
    if thing.group == "food":
        return f"{name} is {_a(thing.kind)} and has a {thing.taste} taste"
    if thing.group == "vehicle":
        return f"{name} is for travel on the {thing.travels}"
    if thing.group == "instrument":
        return f"{name} is {_a(thing.kind)} instrument"
    return f"{name} is used for {thing.use}"


def _a(noun: str) -> str:
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"
