"""Privacy filters as an operator would write them; named in MPA_STUDENT_TAP_FILTER."""

from __future__ import annotations

from PIL import Image

NO_FUNCTION = 3


def drop_secrets(image: Image.Image, question: str | None) -> tuple[Image.Image, str | None] | None:
    """Nothing of who mentions a password; of the rest a small image and a masked question."""
    if question is not None and "password" in question:
        return None
    return image.resize((4, 4)), question and question.replace("Ann", "someone")


def chatty(image: Image.Image, question: str | None) -> tuple[Image.Image, str | None]:
    """Returns words although none were given to it."""
    return image, "words"


def broken(image: Image.Image, question: str | None) -> tuple[Image.Image, str | None]:
    raise RuntimeError("the filter is broken")
