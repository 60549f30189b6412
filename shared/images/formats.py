"""Which image files are read, and what else people store under an image's name."""

from __future__ import annotations

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "JPEG2000", "AVIF", "HEIF")
"""Pillow's names. MPO, a JPEG with more pictures behind it, as phones write it, is opened as JPEG."""
IMAGE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "jif", "mpo", "webp", "bmp", "dib", "gif", "tif", "tiff"),
        *("jp2", "j2k", "jpx", "avif", "heic", "heif", "hif"),
    )
)
"""What a file's name must end in, in any case, to be taken for an image. What it is, its bytes say."""
_MAGIC = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp", b"GIF8": "gif", b"BM": "bmp"}
_OTHERS = (
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"\x00\x00\x01\x00", "a Windows icon"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (4, b"JXL ", "a JPEG XL image"),
    (0, b"version https://git-lfs", "a pointer to a Git LFS file: fetch the file itself"),
    (8, b"AVI ", "a video"),
    (8, b"WAVE", "a sound"),
    (4, b"ftypqt", "a video"),
    (4, b"ftypisom", "a video"),
    (4, b"ftypmp4", "a video"),
    (0, b"\x1a\x45\xdf\xa3", "a video"),
)


def image_kind(data: bytes) -> str | None:
    """``png``, ``jpeg``, ``webp``, ``gif`` or ``bmp``, by the first bytes; None for other formats and unknown files."""
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)


def other_kind(data: bytes) -> str | None:
    """What bytes are that are not an image in a known format, as far as their beginning tells."""
    start = data[:64].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if start.startswith((b"<svg", b"<?xml")):
        return "an SVG drawing or another XML document"
    return next((words for place, magic, words in _OTHERS if data[place:].startswith(magic)), None)
