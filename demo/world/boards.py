"""The families ``text`` (one sign, plate or label) and ``sttext`` (two of them, told apart by place or colour)."""

from __future__ import annotations

from random import Random

from demo.world.canvas import Canvas, color_class, text_width
from demo.world.pictures import Picture, Question, combination_split
from demo.world.vocabulary import BOARDS, COLOR_NAMES, SHORT_WORDS, SIDE, WORDS, Split

NUMBER_SHARE = 0.3
SAME_TEXT_SHARE = 0.15
FOOT_SHARE = 0.5


def draw_text(rng: Random, split: Split) -> Picture:
    """One board whose text, colour and height belong to ``split``."""
    while True:
        board, color, text, third = rng.choice(BOARDS), rng.choice(COLOR_NAMES), _text(rng), rng.randrange(3)
        if combination_split(_text_key(text), color_class(color), third) == split:
            break
    canvas = Canvas.scene(rng)
    font = rng.randrange(3)
    size = _fitting_size(text, font, rng.randint(20, 24), 74 if board == "label" else 82, 15)
    reach = text_width(text, font, size) / 2 + (13 if board == "label" else 8)
    x = rng.uniform(min(reach, SIDE / 2), max(SIDE - reach, SIDE / 2))
    y = 17 + 22 * third + rng.uniform(0, 15)
    canvas.board(text, (x, y), font, size, color, board, "", rng.randint(4, 7), rng.random() < FOOT_SHARE)
    place = ("top", "middle", "bottom")[third]
    return Picture("text", canvas.pixels(), tuple(_text_questions(board, color, text, place)), canvas.dense)


def draw_scene_text(rng: Random, split: Split) -> Picture:
    """Two boards, above each other or side by side, whose texts and first colour belong to ``split``."""
    while True:
        stacked = rng.random() < 0.7
        colors = rng.sample(COLOR_NAMES, 2)
        texts = [_text(rng, not stacked), _text(rng, not stacked)]
        if rng.random() < SAME_TEXT_SHARE:
            texts[1] = texts[0]
        if combination_split(_text_key(texts[0]), color_class(colors[0]), _text_key(texts[1])) == split:
            break
    canvas = Canvas.scene(rng)
    font = rng.randrange(3)
    boards = [rng.choice(BOARDS if stacked else BOARDS[:2]) for _ in texts]
    if stacked:
        places = ("top", "bottom")
        centers = [(rng.uniform(44, 52), rng.uniform(18, 28)), (rng.uniform(44, 52), rng.uniform(68, 78))]
    else:
        places = ("left", "right")
        centers = [(24, rng.uniform(22, 74)), (72, rng.uniform(22, 74))]
    for text, color, board, place, center in zip(texts, colors, boards, places, centers, strict=True):
        width = (78 if stacked else 36) - (10 if board == "label" else 0)
        size = _fitting_size(text, font, rng.randint(19, 22), width, 14)
        pad = rng.randint(4, 7) if stacked else rng.randint(3, 4)
        foot = stacked and place == "bottom" and rng.random() < FOOT_SHARE
        canvas.board(text, center, font, size, color, board, place, pad, foot)
    questions = _pair_questions(texts, colors, boards, places)
    return Picture("sttext", canvas.pixels(), tuple(questions), canvas.dense)


def _text(rng: Random, short: bool = False) -> str:
    if rng.random() < NUMBER_SHARE:
        return str(rng.randint(10, 99))
    return rng.choice(SHORT_WORDS if short else WORDS)


def _text_key(text: str) -> int:
    return WORDS.index(text) if text in WORDS else 100 + int(text)


def _fitting_size(text: str, font: int, size: int, width: int, smallest: int) -> int:
    while text_width(text, font, size) > width and size > smallest:
        size -= 1
    return size


def _text_questions(board: str, color: str, text: str, place: str) -> list[Question]:
    says = f"{color} {board} says {text}"
    is_number = text.isdigit()
    return [
        Question(f"what does the {board} say?", text, "text.read", says),
        Question(f"what is written on the {board}?", text, "text.read", says),
        Question("what text is in the image?", text, "text.read", says),
        Question(f"what color is the {board}?", color, "text.color", f"{board} that says {text} is {color}"),
        Question(f"what is the first character on the {board}?", text[0], "text.first", f"{text} has {text[0]} first"),
        Question(f"what is the last character on the {board}?", text[-1], "text.last", f"{text} has {text[-1]} last"),
        Question(
            f"how many characters are on the {board}?", str(len(text)), "text.length", f"{text} has {_count(text)}"
        ),
        Question(
            f"is there a number on the {board}?",
            "yes" if is_number else "no",
            "text.is_number",
            f"{text} is {'a' if is_number else 'no'} number",
        ),
        Question("what object is in the image?", board, "text.object", f"{text} is written on the {color} {board}"),
        Question(f"where is the {board}?", place, "text.place", f"{text} is in the {place} of the image"),
    ]


def _pair_questions(texts: list[str], colors: list[str], boards: list[str], places: tuple[str, str]) -> list[Question]:
    same = texts[0] == texts[1]
    lengths = [len(text) for text in texts]
    longer = "neither" if lengths[0] == lengths[1] else places[lengths.index(max(lengths))]
    read = " and ".join(f"{place} says {text}" for place, text in zip(places, texts, strict=True))
    counted = " and ".join(f"{place} has {_count(text)}" for place, text in zip(places, texts, strict=True))
    questions = [
        Question("do both objects say the same?", "yes" if same else "no", "sttext.same", read),
        Question("which text is longer?", longer, "sttext.longer", counted),
    ]
    for text, color, board, place in zip(texts, colors, boards, places, strict=True):
        at_place = f"{place} is the {color} {board} that says {text}"
        at_color = f"{color} is the {place} {board} that says {text}"
        questions += [
            Question(f"what is written on the {place} object?", text, "sttext.read_by_place", at_place),
            Question(f"what is written on the {color} object?", text, "sttext.read_by_color", at_color),
            Question(f"what color is the {place} object?", color, "sttext.color_by_place", at_place),
            Question(f"where is the {color} object?", place, "sttext.place_by_color", at_color),
            Question(f"what is the {place} object?", board, "sttext.object_by_place", at_place),
            Question(f"what is the {color} object?", board, "sttext.object_by_color", at_color),
        ]
        if not same:
            at_text = f"{text} is on the {color} {board} on the {place}"
            questions += [
                Question(f"what color is the object that says {text}?", color, "sttext.color_by_text", at_text),
                Question(f"where is the object that says {text}?", place, "sttext.place_by_text", at_text),
            ]
    return questions


def _count(text: str) -> str:
    return f"{len(text)} characters"
