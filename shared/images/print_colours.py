"""CMYK images, as they come from print and from stock photos: their inks become the colours of a screen."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # Pillow is imported on first use: the command line is installed without it
    from PIL import Image

WITHOUT_PROFILE = "approximate colours: CMYK without a print profile"


def to_screen(image: Image.Image) -> tuple[Image.Image, str]:
    """An image of mode CMYK as RGB, and a note as in ``Decoded``.

    The image's own print profile says what its inks look like. Without one that can be used, an ink takes away its
    complement. Pillow has turned the values that JPEG files store inverted, as Adobe's programs write them.
    """
    converted = _by_profile(image)
    return (image.convert("RGB"), WITHOUT_PROFILE) if converted is None else (converted, "")


def _by_profile(image: Image.Image) -> Image.Image | None:
    from PIL import ImageCms

    data = image.info.get("icc_profile")
    if not data:
        return None
    try:
        inks: Any = ImageCms.ImageCmsProfile(io.BytesIO(data))
        if inks.profile.xcolor_space.strip() != "CMYK":
            return None
        screen = ImageCms.createProfile("sRGB")
        # As print programs show a proof: the paper is white and the darkest ink is black.
        return ImageCms.profileToProfile(
            image,
            inks,
            screen,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):  # a damaged profile says nothing about the picture
        return None
