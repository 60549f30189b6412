"""The images of a chat request, whatever their URLs: read, checked, and made data URLs, so that nobody else fetches."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from shared.contracts import ChatMessage, ImagePart, ImageURL
from shared.errors import InvalidInput
from shared.images import ImageLimits, UnreadableImage, decode_image, from_data_url, to_data_url
from shared.settings import ChatImageSettings
from shared.web_images import WEB_SCHEMES, WebImages


class ChatImages:
    """Reads the images of conversations under the rules of the settings. Safe to use from threads."""

    def __init__(self, settings: ChatImageSettings, *, max_images: int, setting: str) -> None:
        """``max_images``: in one request, all of which are held decoded; ``setting`` is the one that allows more."""
        self._limits = ImageLimits.from_settings(settings)
        self._max_images, self._setting = max_images, setting
        self._web = (
            WebImages(
                max_bytes=int(settings.max_image_bytes),
                allow_private=settings.chat_private_image_urls,
                timeout=settings.chat_image_timeout.total_seconds(),
            )
            if settings.chat_image_urls
            else None
        )

    def close(self) -> None:
        if self._web is not None:
            self._web.close()

    def read(self, messages: Sequence[ChatMessage]) -> tuple[tuple[ChatMessage, ...], tuple[Image.Image, ...]]:
        """The messages with data URLs only, and their images in order of appearance.

        Raises InvalidInput that says which image is wrong and why.
        """
        total = sum(isinstance(part, ImagePart) for m in messages if isinstance(m.content, list) for part in m.content)
        if total > self._max_images:
            raise InvalidInput(
                f"The request has {total} images; at most {self._max_images} are read ({self._setting})."
            )
        images: list[Image.Image] = []
        read = []
        for message in messages:
            if isinstance(message.content, str):
                read.append(message)
                continue
            parts = []
            for part in message.content:
                if isinstance(part, ImagePart):
                    url, image = self._one(part.image_url.url, f"Image {len(images) + 1} of {total}")
                    images.append(image)
                    part = ImagePart(type="image_url", image_url=ImageURL(url=url))
                parts.append(part)
            read.append(message.model_copy(update={"content": parts}))
        return tuple(read), tuple(images)

    def _one(self, url: str, place: str) -> tuple[str, Image.Image]:
        try:
            if not url.startswith(WEB_SCHEMES):
                return url, decode_image(from_data_url(url), self._limits)
            if self._web is None:
                raise InvalidInput(
                    f"{url[:200]} is a web address, and those are not fetched here: send a data URL, or have the "
                    "operator set MPA_CHAT_IMAGE_URLS=true."
                )
            data = self._web.fetch(url)
            return to_data_url(data), decode_image(data, self._limits)
        except (UnreadableImage, InvalidInput) as error:
            raise InvalidInput(f"{place}: {error.detail}") from error
