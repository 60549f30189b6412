"""Opens the images of a set again, and makes sure that they are the ones that the teacher was asked about."""

from __future__ import annotations

import hashlib

from PIL import Image

from shared.errors import InvalidInput
from shared.images import ImageLimits, UnreadableImage, decode_image
from shared.images.files import ImageFiles


class CheckedImages:
    """Reads within the same limits as the collection did."""

    def __init__(self, files: ImageFiles, limits: ImageLimits) -> None:
        self._files, self._limits = files, limits

    def read(self, image: str, sha256: str | None = None) -> bytes:
        """The file's bytes. Raises InvalidInput if the file is gone, or is not the one with ``sha256``."""
        try:
            data = self._files.read(image)
        except UnreadableImage as error:
            raise InvalidInput(
                f"{image} can no longer be read ({error.detail}): put it back, then retry the job."
            ) from error
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise InvalidInput(
                f"{image} changed after the teacher was asked about it, so its answers may be wrong: "
                "put the old file back and retry the job, or submit a new one."
            )
        return data

    def open(self, image: str, sha256: str | None = None) -> Image.Image:
        """The image, RGB; raises InvalidInput."""
        try:
            return decode_image(self.read(image, sha256), self._limits)
        except UnreadableImage as error:
            raise InvalidInput(f"{image} cannot be decoded: {error.detail}") from error
