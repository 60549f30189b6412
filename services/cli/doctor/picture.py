"""Two small, clearly different pictures, stored as PNG: the command line is installed without Pillow."""

from __future__ import annotations

SQUARE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAAZklEQVR42u3asQkAIAwAQRVXcBb3L53FIeIMFiLi"
    "fR/IQcrkiEgvV9LjAQAAAAAAAAAAANyr7g6M1o4u1Od0QgAAAAAAAAAAAAAAAAAAAAAAAAAAAABny/6FAAAAAAAAAAAAAL4FLPJRCXtd0qz9AA"
    "AAAElFTkSuQmCC"
)
"""A red square on white, 64 × 64 pixels, as a data URL."""

STRIPES = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAAXElEQVR42u3PsQ0AIAwDwUCRSdh/IiahYgFSIoF0"
    "X1purkXRmuc9x1v/Hp8HAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAcL8NcHsIVvvk4v0AAAAASUVORK5CYI"
    "I="
)
"""Yellow stripes on black, 64 × 64 pixels, as a data URL."""
