"""The images of a chat request: read, checked, and turned into data URLs, so that no engine fetches anything."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from shared.contracts import ChatMessage, ImagePart, ImageURL
from shared.errors import InvalidInput
from shared.images.decode import ImageLimits, from_data_url
from shared.images.errors import UnreadableImage
from shared.images.web import WEB_SCHEMES, ImageTimeout, WebImages
from shared.images.wire import prepare_image
from shared.settings import ChatImageSettings

FETCHING_REQUESTS = 64
Read = tuple[tuple[ChatMessage, ...], tuple[Image.Image, ...]]


class ChatImages:
    """Reads the images of conversations under the rules of the settings. Safe to use from threads."""

    def __init__(self, settings: ChatImageSettings, *, max_images: int, setting: str) -> None:
        """``max_images`` per request, all of which are held decoded; ``setting`` names the setting of this limit."""
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
        self._fetching = ThreadPoolExecutor(FETCHING_REQUESTS, "fetch-image")

    def close(self) -> None:
        self._fetching.shutdown(wait=False, cancel_futures=True)
        if self._web is not None:
            self._web.close()

    async def read_aside(self, messages: Sequence[ChatMessage]) -> Read:
        """As ``read``, off the event loop. Requests that fetch have their own threads, so that no other waits."""
        fetches = self._web is not None and any(
            part.image_url.url.startswith(WEB_SCHEMES) for part in _images(messages)
        )
        pool = self._fetching if fetches else None
        return await asyncio.get_running_loop().run_in_executor(pool, self.read, messages)

    def read(self, messages: Sequence[ChatMessage]) -> Read:
        """The messages with data URLs only, and their images in order of appearance.

        Raises InvalidInput that says which image is wrong and why.
        """
        total = len(_images(messages))
        if total > self._max_images:
            raise InvalidInput(
                f"The request has {total} images; at most {self._max_images} are read ({self._setting}).",
                param="messages",
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
                return self._checked(from_data_url(url))
            if self._web is None:
                raise InvalidInput(
                    f"{url[:200]} is a web address, and those are not fetched here: send a data URL, or ask the "
                    "operator to set MPA_CHAT_IMAGE_URLS=true."
                )
            return self._checked(self._web.fetch(url))
        except (UnreadableImage, InvalidInput) as error:
            found = InvalidInput(f"{place}: {error.detail}", param="messages")
            if isinstance(error, ImageTimeout):
                found.slug = error.slug
            raise found from error

    def _checked(self, data: bytes) -> tuple[str, Image.Image]:
        """The data URL and the picture: every engine sees what our decoder sees."""
        sent = prepare_image(data, self._limits)
        return sent.url, sent.image


def _images(messages: Sequence[ChatMessage]) -> list[ImagePart]:
    return [p for m in messages if isinstance(m.content, list) for p in m.content if isinstance(p, ImagePart)]
