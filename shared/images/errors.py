"""What is raised for an image that cannot be used."""

from __future__ import annotations

from shared.errors import MPAError


class UnreadableImage(MPAError):
    """The bytes are not a usable image; ``detail`` gives the reason."""

    status, slug, title = 422, "unreadable-image", "The image cannot be read"
