"""A picture file that anybody may have sent, as a small grey picture, or an error of ours.

    limits     bytes, then pixels and sides; nothing is unpacked before they are checked
    pixels     luminance only, scaled down, upright by EXIF, what is transparent over black

A file is hostile until shown otherwise: whatever Pillow raises becomes InvalidInput. What a file says it is, by its
first bytes, is in `orchestrator/media.py`; what is in the picture, in `orchestrator/vision.py`.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from orchestrator.errors import InvalidInput, NotAnImage, OrchestratorError
from orchestrator.media import MAX_BYTES, MediaType, media_type

Pixels = NDArray[np.uint8]
"""Luminance, 0 is black and 255 white; shape (height, width)."""

MAX_PIXELS = 12_000_000
MAX_SIDE = 8_000
"""px."""
MIN_SIDE = 2
MAX_SCANS = 100
"""A progressive JPEG has about ten scans. Thousands fit into a small file, and each is a pass over all pixels."""
FRAME_SIDE = 320
"""The longer side, in px, to which a frame during the interview is scaled down before anything is looked for."""
REFERENCE_SIDE = 640
"""The same for a reference picture."""

_FORMATS: dict[MediaType, str] = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
"""Pillow's names."""


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A decoded picture, upright and scaled down. `media_type` is that of the file."""

    pixels: Pixels
    media_type: MediaType

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def brightness(self) -> float:
        """Mean luminance, 0 to 255."""
        return float(self.pixels.mean())


def decode(data: bytes, side: int = FRAME_SIDE) -> Image:
    """A JPEG, PNG or WebP file as a grey picture whose longer side is at most `side` px.

    Sizes are checked before any pixel is decoded. What is transparent becomes black, as a viewer would show it.
    Raises NotAnImage, or InvalidInput at /image.
    """
    if not data:
        raise _invalid("The image is empty.")
    if len(data) > MAX_BYTES:
        raise _invalid(f"The image has more than {MAX_BYTES // 1_000_000} MB.")
    media = media_type(data)
    if media is None:
        raise NotAnImage("The image is not a JPEG, PNG or WebP file.")
    try:
        return Image(_pixels(data, media, side), media)
    except OrchestratorError:
        raise
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning):
        raise _too_large() from None
    except Exception:  # Pillow's plugins raise whatever they stumble over
        raise _invalid("The image is damaged or not complete.") from None


def _invalid(detail: str) -> InvalidInput:
    return InvalidInput.at("/image", detail)


def _too_large() -> InvalidInput:
    return _invalid(f"The image has more than {MAX_PIXELS // 1_000_000} megapixels or a side over {MAX_SIDE} px.")


def _pixels(data: bytes, media: MediaType, side: int) -> Pixels:
    if media == "image/webp":  # Pillow makes room for the whole picture when it opens one
        _check_size(*_webp_size(data))
    if media == "image/jpeg" and len(re.findall(rb"\xff\xda\x00[\x08\x0a\x0c\x0e][\x01-\x04]", data)) > MAX_SCANS:
        raise _invalid(f"The image is a progressive JPEG with more than {MAX_SCANS} scans.")
    with PIL.Image.open(io.BytesIO(data), formats=[_FORMATS[media]]) as picture:
        _check_size(*picture.size)
        if media != "image/jpeg" and getattr(picture, "n_frames", 1) > 1:
            raise _invalid("The image is animated; a still one is needed.")
        scale = min(1.0, side / max(picture.size))
        target = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        picture.draft("L", target)
        picture.load()
        grey = _grey(picture, target)
        if grey.shape[::-1] != target:
            grey = cv2.resize(grey, target, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        return np.ascontiguousarray(_upright(grey, _orientation(picture)))


def _check_size(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise _invalid(f"The image is smaller than {MIN_SIDE}x{MIN_SIDE} px.")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise _too_large()


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from the first chunk (RFC 9649, sections 2.5 to 2.7)."""
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X":
        if body[0] & 0x02:
            raise _invalid("The image is animated; a still one is needed.")
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind != b"VP8 ":
        raise ValueError(kind)
    width, height = struct.unpack("<HH", body[6:10])
    return width & 0x3FFF, height & 0x3FFF


def _grey(picture: PIL.Image.Image, target: tuple[int, int]) -> Pixels:
    """Luminance, reduced by whole steps on the way so that no second full-size copy is made where it can be helped."""
    if picture.mode.startswith("I"):  # 16 bits of grey
        return (np.clip(np.asarray(picture), 0, 0xFFFF) >> 8).astype(np.uint8)
    step = max(1, min(picture.width // target[0], picture.height // target[1]))
    if picture.has_transparency_data:
        small = picture.convert("RGBA").reduce(step)
        return np.asarray(PIL.Image.alpha_composite(PIL.Image.new("RGBA", small.size, "black"), small).convert("L"))
    if picture.mode in ("1", "P"):
        return np.asarray(picture.convert("L"))
    return np.asarray(picture.reduce(step).convert("L"))


def _orientation(picture: PIL.Image.Image) -> int:
    try:
        return int(picture.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF: the picture itself is fine
        return 1


_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: np.fliplr,
    3: lambda p: np.rot90(p, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda p: np.rot90(p, 3),
    7: lambda p: np.rot90(p, 2).T,
    8: np.rot90,
}
"""By EXIF's orientation."""


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    turn = _UPRIGHT.get(orientation)
    return turn(pixels) if turn else pixels
