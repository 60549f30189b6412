"""The closed vocabulary of the world: sizes, colours, characters, words, things and positions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SIDE = 96
"""Width and height of an image in pixels."""
PATCH = 12
"""Width and height of a vision patch in pixels."""
GRID = SIDE // PATCH
"""Patches a side."""

FAMILIES = ("chart", "text", "sttext", "know")
REFUSAL = "unanswerable"
"""The answer to a question whose premise does not hold for the image."""


class Split(StrEnum):
    """Which combinations (word x colour x position, values, icon x size ...) an image may show; disjoint."""

    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


RGB = tuple[int, int, int]

COLORS: dict[str, RGB] = {
    "red": (214, 40, 40),
    "blue": (38, 84, 200),
    "green": (44, 160, 60),
    "yellow": (245, 210, 40),
    "orange": (245, 130, 30),
    "purple": (130, 60, 170),
    "pink": (245, 140, 190),
    "black": (25, 25, 25),
    "white": (248, 248, 248),
}
COLOR_NAMES = tuple(COLORS)
DARK_COLORS = frozenset({"red", "blue", "green", "purple", "black"})

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
BAR_LABELS = "ABCDEFGH"
# fmt: off
WORDS = (
    "OPEN", "STOP", "EXIT", "SALE", "TAXI", "BANK", "CAFE", "FOOD", "FISH", "MILK", "BOOK", "HOTEL", "PIZZA",
    "PARK", "BUS", "GAS", "SHOP", "TEA", "ZOO", "GYM", "SLOW", "WAIT", "FIRE", "HELP", "FREE", "COLD", "HOT", "ICE",
    "BAR", "PUB", "MENU", "ROAD", "EAST", "WEST", "NORTH", "SOUTH", "LEFT", "RIGHT", "PUSH", "PULL", "BOAT", "LAKE",
    "FARM", "TOYS", "GAME", "NEWS", "MAIL", "GIFT",
)
# fmt: on
SHORT_WORDS = tuple(word for word in WORDS if len(word) <= 3)
BOARDS = ("sign", "plate", "label")


@dataclass(frozen=True)
class Thing:
    """An object of the ``know`` family and what is commonly known about it."""

    emoji: str
    group: str
    kind: str = ""
    habitat: str = ""
    diet: str = ""
    legs: int = 0
    flies: bool = False
    taste: str = ""
    use: str = ""
    travels: str = ""


def _animal(emoji: str, kind: str, habitat: str, diet: str, legs: int, flies: bool = False) -> Thing:
    return Thing(emoji, "animal", kind, habitat, diet, legs, flies)


def _food(emoji: str, kind: str, taste: str) -> Thing:
    return Thing(emoji, "food", kind, taste=taste)


def _tool(emoji: str, use: str) -> Thing:
    return Thing(emoji, "tool", use=use)


def _vehicle(emoji: str, travels: str, flies: bool = False) -> Thing:
    return Thing(emoji, "vehicle", travels=travels, flies=flies, use="transport")


def _instrument(emoji: str, kind: str) -> Thing:
    return Thing(emoji, "instrument", kind, use="playing music")


THINGS: dict[str, Thing] = {
    "dog": _animal("🐕", "mammal", "home", "meat", 4),
    "cat": _animal("🐈", "mammal", "home", "meat", 4),
    "horse": _animal("🐎", "mammal", "farm", "grass", 4),
    "cow": _animal("🐄", "mammal", "farm", "grass", 4),
    "pig": _animal("🐖", "mammal", "farm", "plants", 4),
    "sheep": _animal("🐑", "mammal", "farm", "grass", 4),
    "elephant": _animal("🐘", "mammal", "savanna", "plants", 4),
    "lion": _animal("🦁", "mammal", "savanna", "meat", 4),
    "monkey": _animal("🐒", "mammal", "jungle", "fruit", 2),
    "whale": _animal("🐋", "mammal", "sea", "fish", 0),
    "eagle": _animal("🦅", "bird", "mountains", "meat", 2, True),
    "penguin": _animal("🐧", "bird", "ice", "fish", 2),
    "owl": _animal("🦉", "bird", "forest", "meat", 2, True),
    "rooster": _animal("🐓", "bird", "farm", "seeds", 2),
    "fish": _animal("🐟", "fish", "sea", "plants", 0),
    "shark": _animal("🦈", "fish", "sea", "fish", 0),
    "bee": _animal("🐝", "insect", "hive", "nectar", 6, True),
    "butterfly": _animal("🦋", "insect", "garden", "nectar", 6, True),
    "ant": _animal("🐜", "insect", "nest", "plants", 6),
    "snake": _animal("🐍", "reptile", "desert", "meat", 0),
    "turtle": _animal("🐢", "reptile", "sea", "plants", 4),
    "crocodile": _animal("🐊", "reptile", "river", "meat", 4),
    "apple": _food("🍎", "fruit", "sweet"),
    "banana": _food("🍌", "fruit", "sweet"),
    "lemon": _food("🍋", "fruit", "sour"),
    "grapes": _food("🍇", "fruit", "sweet"),
    "strawberry": _food("🍓", "fruit", "sweet"),
    "carrot": _food("🥕", "vegetable", "sweet"),
    "broccoli": _food("🥦", "vegetable", "bitter"),
    "corn": _food("🌽", "vegetable", "sweet"),
    "pepper": _food("🌶", "vegetable", "spicy"),
    "bread": _food("🍞", "bakery", "plain"),
    "cake": _food("🍰", "dessert", "sweet"),
    "cheese": _food("🧀", "dairy", "salty"),
    "pretzel": _food("🥨", "bakery", "salty"),
    "ice cream": _food("🍨", "dessert", "sweet"),
    "hammer": _tool("🔨", "hitting nails"),
    "scissors": _tool("✂", "cutting paper"),
    "key": _tool("🔑", "opening locks"),
    "umbrella": _tool("☂", "staying dry"),
    "pencil": _tool("✏", "writing"),
    "book": _tool("📖", "reading"),
    "clock": _tool("⏰", "telling time"),
    "broom": _tool("🧹", "cleaning floors"),
    "camera": _tool("📷", "taking pictures"),
    "telescope": _tool("🔭", "seeing stars"),
    "phone": _tool("📞", "calling people"),
    "lamp": _tool("💡", "giving light"),
    "saw": _tool("🪚", "cutting wood"),
    "magnet": _tool("🧲", "attracting iron"),
    "bed": _tool("🛏", "sleeping"),
    "soap": _tool("🧼", "washing hands"),
    "car": _vehicle("🚗", "road"),
    "bus": _vehicle("🚌", "road"),
    "train": _vehicle("🚂", "rails"),
    "airplane": _vehicle("✈", "air", True),
    "boat": _vehicle("⛵", "water"),
    "ship": _vehicle("🚢", "water"),
    "bicycle": _vehicle("🚲", "road"),
    "helicopter": _vehicle("🚁", "air", True),
    "rocket": _vehicle("🚀", "space", True),
    "guitar": _instrument("🎸", "strings"),
    "violin": _instrument("🎻", "strings"),
    "trumpet": _instrument("🎺", "brass"),
    "drum": _instrument("🥁", "percussion"),
    "piano": _instrument("🎹", "keyboard"),
}
THING_NAMES = tuple(THINGS)
