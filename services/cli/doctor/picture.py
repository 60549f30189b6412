"""Two small, clearly different pictures as PNG, made without an image library."""

from __future__ import annotations

import base64
import struct
import zlib

SIDE = 64
WHITE, BLACK, RED, YELLOW = (255, 255, 255), (0, 0, 0), (200, 20, 20), (250, 220, 0)


def square() -> str:
    """A red square on white, as a data URL."""
    middle = range(SIDE // 4, 3 * SIDE // 4)
    return _url([[RED if x in middle and y in middle else WHITE for x in range(SIDE)] for y in range(SIDE)])


def stripes() -> str:
    """Yellow stripes on black, as a data URL."""
    return _url([[YELLOW if x // 8 % 2 else BLACK for x in range(SIDE)] for _ in range(SIDE)])


def _url(rows: list[list[tuple[int, int, int]]]) -> str:
    lines = b"".join(b"\0" + bytes(value for pixel in row for value in pixel) for row in rows)
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
