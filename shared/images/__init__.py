"""Images from outside: read from files, URLs and chats, checked, and decoded."""

from shared.images.decode import ImageLimits, UnreadableImage, decode_image, from_data_url, image_kind, to_data_url

__all__ = ["ImageLimits", "UnreadableImage", "decode_image", "from_data_url", "image_kind", "to_data_url"]
