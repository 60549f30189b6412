"""Files of pictures, as programs other than ours write them."""

from __future__ import annotations

import base64
import io
import struct

from PIL import Image


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.copy().save(buffer, format, **options)  # saving leaves settings of the format behind
    return buffer.getvalue()


def ramp() -> Image.Image:
    """Grey, 256 × 256, from black at the top to white at the bottom."""
    return Image.linear_gradient("L")


def tiff(width: int, bits: int, sample_format: int, values: bytes, *, photometric: int = 1, big: bool = False) -> bytes:
    """A grey TIFF. ``sample_format``: 1 unsigned, 2 signed, 3 float; ``photometric``: 0 counts from white."""
    order, height = ">" if big else "<", len(values) * 8 // bits // width
    short, long = 3, 4
    tags = [(256, short, width), (257, short, height), (258, short, bits), (259, short, 1), (262, short, photometric)]
    tags += [(273, long, 8 + 2 + 12 * 10 + 4), (277, short, 1), (278, short, height), (279, long, len(values))]
    tags += [(339, short, sample_format)]
    head = (b"MM\0*" if big else b"II*\0") + struct.pack(f"{order}IH", 8, len(tags))
    for tag, kind, value in tags:
        head += struct.pack(f"{order}HHI", tag, kind, 1)
        head += struct.pack(f"{order}HH", value, 0) if kind == short else struct.pack(f"{order}I", value)
    return head + struct.pack(f"{order}I", 0) + values


def print_profile(cyan: tuple[int, int, int]) -> bytes:
    """A CMYK profile in which full cyan ink has the 8-bit CIELAB value ``cyan``, and all other inks are white paper."""
    paper = (255, 128, 128)
    identity = bytes(range(256))
    grid = b"".join(bytes(cyan if corner & 8 and not corner & 7 else paper) for corner in range(16))
    matrix = struct.pack(">9i", *(65536 * (place % 4 == 0) for place in range(9)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + identity * 4 + grid + identity * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78 + 3)
    tags, start = b"", 128 + 4 + 3 * 12
    for name, body in ((b"A2B0", table), (b"wtpt", white), (b"desc", text)):
        tags += name + struct.pack(">2I", start, len(body))
        start += len(body)
    head = struct.pack(">I4sI4s4s4s", start, b"\0\0\0\0", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", 3) + tags + table + white + text


HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ACJpbG9jAAAAAERAAAEAAQAAAAABoQABAAAAAAAAAEwAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRt"
    "AAAAAAABAAAA/WlwcnAAAADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5j"
    "bHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBp"
    "eGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAAFRtZGF0AAAASCgBrxOA5Vz/++rL+TcA9L7B7dagPtuBzu8bKjv8"
    "WQv5mVSHxfBARaiRLfyFTvbvFa+PHfF+q0nirCj0yOg4JD4YdFNyQZ3k4A=="
)
"""64 × 48, red at the top left; written by pillow-heif 1.8.1."""
HEIC_WITH_TWO_PICTURES = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAaxtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ADRpbG9jAAAAAERAAAIAAQAAAAAB0AABAAAAAAAAAEMAAgAAAAACEwABAAAAAAAAADUAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAA"
    "AAABAABodmMxAAAAABVpbmZlAgAAAAACAABodmMxAAAAAA5waXRtAAAAAAABAAABBWlwcnAAAADdaXBjbwAAAHZodmNDAQNwAAAA"
    "kAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq"
    "5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xh"
    "cAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAACBpcG1hAAAAAAAAAAIAAQWBAgMFhAAC"
    "BYECAwWEAAAAgG1kYXQAAAA/KAGvWPkkH/1Cb+WtQzUYxIDDdd8L7CuFn6SabKSICiyvFwn1fLJzCtrDQeJyUvrlIjo2MFUJo+6/"
    "7L8xLACwAAAAMSgBr1jmBZ9iGYEiVW+9DrDTOOIl2g8tYAwNYRGoZ4nKAlm46tVf59l/zDsh3Kw4LuA="
)
