"""Opens the pictures of a set again, and makes sure that they are the ones the teacher was asked about."""

from __future__ import annotations

import hashlib

from PIL import Image

from services.trainer.data.dataset import Sample
from shared.errors import InvalidInput
from shared.images import ImageLimits, UnreadableImage, decode_image
from shared.images.files import ImageFiles


class Pictures:
    """Reads within the same limits as the collection did."""

    def __init__(self, files: ImageFiles, limits: ImageLimits) -> None:
        self._files, self._limits = files, limits

    def read(self, image: str, sha256: str | None = None) -> bytes:
        """The file's bytes; raises InvalidInput if it is gone or not the file it was."""
        try:
            data = self._files.read(image)
        except UnreadableImage as error:
            raise InvalidInput(
                f"{image} cannot be read any more ({error.detail}): put it back, then retry the job."
            ) from error
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise InvalidInput(
                f"{image} changed after the teacher was asked about it, so its answers may be wrong: "
                "put the old file back and retry the job, or submit a new one."
            )
        return data

    def open(self, sample: Sample) -> Image.Image:
        """The sample's picture, RGB; raises InvalidInput."""
        data = self.read(sample.image, sample.image_sha256)
        try:
            return decode_image(data, self._limits)
        except UnreadableImage as error:
            raise InvalidInput(f"{sample.image} cannot be decoded: {error.detail}") from error
