"""Images from outside: read from files, URLs and chats, checked, and decoded."""

from shared.images.decode import Decoded, ImageLimits, decode, decode_image, from_data_url, to_data_url
from shared.images.errors import UnreadableImage
from shared.images.formats import IMAGE_SUFFIXES, image_kind

__all__ = [
    "IMAGE_SUFFIXES",
    "Decoded",
    "ImageLimits",
    "UnreadableImage",
    "decode",
    "decode_image",
    "from_data_url",
    "image_kind",
    "to_data_url",
]
