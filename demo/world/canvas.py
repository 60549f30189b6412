"""Drawing surface: PIL image plus dense per-patch labels; fonts and sprites come from ``demo/assets``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from demo.world.vocabulary import (
    BOARDS,
    CHARACTERS,
    COLOR_NAMES,
    COLORS,
    DARK_COLORS,
    GRID,
    PATCH,
    RGB,
    SIDE,
    THING_NAMES,
    WORDS,
)

ASSETS = Path(__file__).resolve().parents[1] / "assets"
FONTS = ("DejaVuSans-Bold", "DejaVuSansCondensed-Bold", "DejaVuSansMono-Bold")

POSITIONS = {"top": 1, "bottom": 2, "left": 3, "right": 4, "highest": 5, "lowest": 6}
NUMBER_WORD = len(WORDS) + 1
FIRST_BOARD, FIRST_THING = 10, 10 + len(BOARDS)

CHANNELS: dict[str, int] = {
    "char": len(CHARACTERS) + 1,
    "color": len(COLOR_NAMES) + 1,
    "object": FIRST_THING + len(THING_NAMES),
    "word": NUMBER_WORD + 1,
    "first": len(CHARACTERS) + 1,
    "last": len(CHARACTERS) + 1,
    "position": len(POSITIONS) + 1,
}
"""Dense channels and their number of classes; class 0 is nothing. ``object``: a chart value, a board or a thing."""
_INDEX = {name: index for index, name in enumerate(CHANNELS)}


@cache
def _glyph(font: int, size: int, character: str) -> tuple[Image.Image, int, int]:
    face = ImageFont.truetype(str(ASSETS / "fonts" / f"{FONTS[font]}.ttf"), size, layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = (round(edge) for edge in face.getbbox(character))
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).text((-left, -top), character, font=face, fill=255)
    return mask, mask.width, mask.height


@cache
def _sprite_file(name: str) -> Image.Image:
    return Image.open(ASSETS / "sprites" / f"{name.replace(' ', '_')}.png").convert("RGBA")


@cache
def sprite(name: str, size: int, mirrored: bool = False) -> Image.Image:
    """The drawing of a thing, its longer side ``size`` pixels."""
    full = _sprite_file(name)
    ratio = size / max(full.size)
    small = full.resize(
        (max(1, round(full.width * ratio)), max(1, round(full.height * ratio))), Image.Resampling.LANCZOS
    )
    return small.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else small


@cache
def text_width(text: str, font: int, size: int, gap: int = 1) -> int:
    """Width in pixels of ``text`` as `Canvas.text` draws it."""
    return sum(_glyph(font, size, character)[1] for character in text) + gap * (len(text) - 1)


def ink(color: str) -> RGB:
    """A colour that reads well on ``color``."""
    return (250, 250, 250) if color in DARK_COLORS else (20, 20, 20)


def character_class(character: str) -> int:
    return CHARACTERS.index(character) + 1


def color_class(color: str) -> int:
    return COLOR_NAMES.index(color) + 1


def word_class(text: str) -> int:
    return WORDS.index(text) + 1 if text in WORDS else NUMBER_WORD


class Canvas:
    """One image being drawn; ``dense`` is uint8 [7, 8, 8] in the order of `CHANNELS`."""

    def __init__(self, background: RGB) -> None:
        self.image = Image.new("RGB", (SIDE, SIDE), background)
        self.draw = ImageDraw.Draw(self.image)
        self.dense = np.zeros((len(CHANNELS), GRID, GRID), np.uint8)
        self._character_cover = np.zeros((GRID, GRID))
        self._mark_cover = np.zeros((GRID, GRID))

    @classmethod
    def plain(cls, rng: Random) -> Canvas:
        """A light, even background."""
        base = rng.randint(205, 252)
        red, green, blue = (base + rng.randint(-10, 3) for _ in range(3))
        return cls((red, green, blue))

    @classmethod
    def scene(cls, rng: Random) -> Canvas:
        """A background of any colour with up to three muted shapes on it."""
        base = (rng.randint(60, 235), rng.randint(60, 235), rng.randint(60, 235))
        canvas = cls(base)
        for _ in range(rng.randint(0, 3)):
            x, y = rng.randint(-20, 80), rng.randint(-20, 80)
            red, green, blue = (max(0, min(255, part + rng.randint(-40, 40))) for part in base)
            shape = canvas.draw.rectangle if rng.random() < 0.6 else canvas.draw.ellipse
            shape([x, y, x + rng.randint(15, 70), y + rng.randint(15, 70)], fill=(red, green, blue))
        return canvas

    def pixels(self) -> NDArray[np.uint8]:
        """The image so far, uint8 [96, 96, 3]."""
        return np.asarray(self.image, np.uint8)

    def mark(self, box: tuple[float, float, float, float], threshold: float = 0.25, **labels: int) -> None:
        """Label the patches that ``box`` (x0, y0, x1, y1) covers most; channels not named are cleared there."""
        for row, column, overlap in _patches(box):
            cover = overlap / (PATCH * PATCH)
            if cover >= threshold and cover > self._mark_cover[row, column]:
                self._mark_cover[row, column] = cover
                for name, index in _INDEX.items():
                    if name != "char":
                        self.dense[index, row, column] = labels.get(name, 0)

    def label_patch(self, row: int, column: int, **labels: int) -> None:
        """Label one patch in the channels named."""
        for name, value in labels.items():
            self.dense[_INDEX[name], row, column] = value

    def text(self, text: str, center: tuple[float, float], font: int, size: int, fill: RGB, gap: int = 1) -> None:
        """Draw ``text`` around ``center`` and label its characters."""
        glyphs = [_glyph(font, size, character) for character in text]
        x = center[0] - text_width(text, font, size, gap) / 2
        tallest = max(glyph[2] for glyph in glyphs)
        for character, (mask, width, height) in zip(text, glyphs, strict=True):
            # Q has a tail: aligned at the top so that it sits on the line like the others
            y = center[1] - tallest / 2 if character == "Q" else center[1] + tallest / 2 - height
            self.image.paste(fill, (int(x), int(y)), mask)
            self._mark_character(character, (int(x), int(y), int(x) + width, int(y) + height))
            x += width + gap

    def board(
        self,
        text: str,
        center: tuple[float, float],
        font: int,
        size: int,
        color: str,
        board: str,
        position: str,
        pad: int,
        foot: bool,
    ) -> None:
        """Draw a sign, plate or label that carries ``text``; ``pad``: pixels left and right of the text."""
        x, y = center
        half_width = text_width(text, font, size) / 2 + pad
        half_height = size * 0.37 + 5
        box = (x - half_width, y - half_height, x + half_width, y + half_height)
        if board == "plate":
            self.draw.rounded_rectangle(box, 6, fill=COLORS[color], outline=(60, 60, 60))
        elif board == "label":
            self.draw.ellipse((box[0] - 5, box[1] - 5, box[2] + 5, box[3] + 5), fill=COLORS[color])
        else:
            if foot:
                self.draw.rectangle((x - 2, box[3], x + 2, min(SIDE, box[3] + 26)), fill=(95, 85, 80))
            self.draw.rectangle(box, fill=COLORS[color], outline=ink(color))
        self.mark(
            box,
            color=color_class(color),
            object=FIRST_BOARD + BOARDS.index(board),
            word=word_class(text),
            first=character_class(text[0]),
            last=character_class(text[-1]),
            position=POSITIONS.get(position, 0),
        )
        self.text(text, center, font, size, ink(color))

    def paste_thing(self, name: str, drawing: Image.Image, corner: tuple[int, int]) -> None:
        """Paste the sprite of ``name`` with its upper left at ``corner``."""
        self.image.paste(drawing, corner, drawing)
        x, y = corner
        self.mark((x, y, x + drawing.width, y + drawing.height), 0.4, object=FIRST_THING + THING_NAMES.index(name))

    def _mark_character(self, character: str, box: tuple[int, int, int, int]) -> None:
        area = max(1, (box[2] - box[0]) * (box[3] - box[1]))
        for row, column, overlap in _patches(box):
            cover = overlap / area
            if cover > 0.3 and cover > self._character_cover[row, column]:
                self._character_cover[row, column] = cover
                self.dense[0, row, column] = character_class(character)


def _patches(box: tuple[float, float, float, float]) -> list[tuple[int, int, float]]:
    """Row, column and shared area in pixels of every patch that ``box`` touches."""
    x0, y0, x1, y1 = box
    return [
        (
            row,
            column,
            (min(x1, (column + 1) * PATCH) - max(x0, column * PATCH))
            * (min(y1, (row + 1) * PATCH) - max(y0, row * PATCH)),
        )
        for row in range(max(0, int(y0 // PATCH)), min(GRID - 1, int(y1 // PATCH)) + 1)
        for column in range(max(0, int(x0 // PATCH)), min(GRID - 1, int(x1 // PATCH)) + 1)
    ]
