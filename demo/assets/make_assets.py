"""Rebuilds ``demo/assets`` from the system's fonts (Debian: fonts-dejavu, fonts-noto-color-emoji). Needs fonttools."""

from __future__ import annotations

import sys
from pathlib import Path

from fontTools import subset
from PIL import Image, ImageDraw, ImageFont

from demo.world.canvas import ASSETS, FONTS
from demo.world.vocabulary import CHARACTERS, THINGS

SPRITE_SIDE = 72
"""Longer side of a sprite in pixels: a little more than the largest that is drawn."""
EMOJI_STRIKE = 109
"""The one bitmap size that Noto Color Emoji holds."""


def subset_font(source: Path, target: Path) -> None:
    options = subset.Options()
    options.hinting = True
    options.name_IDs = ["*"]
    font = subset.load_font(str(source), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text=CHARACTERS)
    subsetter.subset(font)
    subset.save_font(font, str(target), options)


def render_sprite(emoji: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    image = Image.new("RGBA", (150, 140))
    ImageDraw.Draw(image).text((5, 5), emoji, font=font, embedded_color=True)
    box = image.getbbox()
    if box is None:
        raise ValueError(f"the emoji font has no drawing for {emoji!r}")
    image = image.crop(box)
    image.thumbnail((SPRITE_SIDE, SPRITE_SIDE), Image.Resampling.LANCZOS)
    return image


def main(fonts: Path, emoji: Path) -> None:
    (ASSETS / "fonts").mkdir(parents=True, exist_ok=True)
    (ASSETS / "sprites").mkdir(parents=True, exist_ok=True)
    for name in FONTS:
        subset_font(fonts / f"{name}.ttf", ASSETS / "fonts" / f"{name}.ttf")
    font = ImageFont.truetype(str(emoji), EMOJI_STRIKE)
    for name, thing in THINGS.items():
        render_sprite(thing.emoji, font).save(ASSETS / "sprites" / f"{name.replace(' ', '_')}.png", optimize=True)


if __name__ == "__main__":
    root = Path("/usr/share/fonts/truetype")
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else root / "dejavu", root / "noto" / "NotoColorEmoji.ttf")
