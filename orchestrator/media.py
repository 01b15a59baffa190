"""What a picture file says it is, from its first bytes. Loads no image library, so the HTTP front end can use it.

`orchestrator/pictures.py` decodes such a file. Only that tells whether it really is a picture.
"""

from __future__ import annotations

from typing import Literal

MediaType = Literal["image/jpeg", "image/png", "image/webp"]

MAX_BYTES = 5_000_000
"""Larger files are not taken."""


def media_type(data: bytes) -> MediaType | None:
    """The media type by magic bytes; None if it is none of the three. The first 12 bytes are enough."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None
