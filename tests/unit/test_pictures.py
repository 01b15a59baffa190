"""Picture files that anybody may send: what is read, and what is refused and how."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import tracemalloc
import zlib
from typing import Any

import numpy as np
import PIL.Image
import pytest

from orchestrator.errors import InvalidInput, NotAnImage
from orchestrator.media import MAX_BYTES, media_type
from orchestrator.pictures import Pixels, decode


def scene(width: int = 160, height: int = 120, seed: int = 1) -> Pixels:
    random_numbers = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    return (
        (120 + 60 * np.sin(x / 9) + 40 * np.cos(y / 7) + random_numbers.normal(0, 5, x.shape)).clip(0, 255).astype("u1")
    )


def file(picture: PIL.Image.Image | Pixels, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (picture if isinstance(picture, PIL.Image.Image) else PIL.Image.fromarray(picture)).save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose rows are all there, in a few KB."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def webp_of_size(width: int, height: int) -> bytes:
    """A WebP that claims a size in its extended header."""
    body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = b"WEBPVP8X" + struct.pack("<I", len(body)) + body + file(scene(), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(file(scene()))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def animated(kind: str) -> bytes:
    frames = [PIL.Image.fromarray(scene(seed=seed)) for seed in (1, 2, 3)]
    return file(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)


@pytest.mark.parametrize(("kind", "media_type"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp")])
def test_the_three_formats_are_read(kind: str, media_type: str) -> None:
    image = decode(file(scene(640, 480), kind))
    assert (image.width, image.height, image.media_type) == (320, 240, media_type)
    assert image.pixels.dtype == np.uint8 and image.pixels.flags.c_contiguous
    assert image.brightness == pytest.approx(scene(640, 480).mean(), abs=2)


@pytest.mark.parametrize(
    ("size", "expected"), [((4000, 3000), (320, 240)), ((3000, 4000), (240, 320)), ((99, 80), (99, 80))]
)
def test_the_longer_side_decides_and_nothing_is_scaled_up(size: tuple[int, int], expected: tuple[int, int]) -> None:
    picture = PIL.Image.new("RGB", size, (90, 90, 90))
    for kind in ("JPEG", "PNG", "WEBP"):
        assert decode(file(picture, kind)).pixels.shape[::-1] == expected


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("CMYK", "JPEG")],
)
def test_every_kind_of_pixels_becomes_grey(mode: str, kind: str) -> None:
    if mode == "I;16":
        picture = PIL.Image.fromarray(np.full((90, 120), 200 << 8, np.uint16))
    else:
        picture = PIL.Image.new("L", (120, 90), 255 if mode == "1" else 200).convert(mode)
    assert decode(file(picture, kind)).brightness == pytest.approx(255 if mode == "1" else 200, abs=3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_is_transparent_is_black_as_people_would_see_it(kind: str) -> None:
    hidden = PIL.Image.new("RGBA", (120, 90), (255, 255, 255, 0))
    assert decode(file(hidden, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))).brightness == 0


@pytest.mark.parametrize(
    "data",
    [
        b"some text that is long enough to be taken for a file",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'/>",
        file(scene(), "GIF"),
        file(scene(), "BMP"),
        file(scene(), "TIFF"),
        b"\xff",
        b"RIFF\x00\x00\x00\x00WAVEfmt ",
        random.Random(1).randbytes(5000),
    ],
    ids=["text", "svg", "gif", "bmp", "tiff", "one byte", "wave", "random"],
)
def test_what_is_none_of_the_three_formats_is_called_so(data: bytes) -> None:
    with pytest.raises(NotAnImage, match="JPEG, PNG or WebP"):
        decode(data)


BAD = {
    "empty": (b"", "empty"),
    "1x1": (file(scene(1, 1), "PNG"), "smaller than 2x2"),
    "one row": (file(scene(500, 1), "PNG"), "smaller than 2x2"),
    "too many bytes": (file(scene()) + bytes(MAX_BYTES), "more than 5 MB"),
    "40 megapixel PNG": (png_of_size(8000, 5000), "12 megapixels"),
    "long PNG": (png_of_size(8001, 4), "a side over 8000"),
    "huge PNG header": (png_of_size(1, 1)[:16] + struct.pack(">II", 60_000, 60_000) + png_of_size(1, 1)[24:], "."),
    "huge JPEG header": (jpeg_of_size(65_000, 65_000), "12 megapixels"),
    "huge WebP header": (webp_of_size(16_384, 16_384), "12 megapixels"),
    "WebP of two sizes": (webp_of_size(161, 120), "damaged"),
    "animated PNG": (animated("PNG"), "animated"),
    "animated WebP": (animated("WEBP"), "animated"),
    "JPEG of very many scans": (file(scene(), progressive=True) + b"\xff\xda\x00\x08\x01" * 101, "100 scans"),
    "magic bytes of JPEG": (b"\xff\xd8\xff\xe0", "damaged"),
    "magic bytes of PNG": (b"\x89PNG\r\n\x1a\n", "damaged"),
    "magic bytes of WebP": (b"RIFF\x10\x00\x00\x00WEBPVP8X", "damaged"),
    "unknown WebP": (b"RIFF\x10\x00\x00\x00WEBPXXXX" + bytes(30), "damaged"),
}


@pytest.mark.parametrize(("data", "reason"), BAD.values(), ids=BAD.keys())
def test_a_picture_that_cannot_be_taken_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        decode(data)
    assert caught.value.errors == [{"pointer": "/image", "detail": caught.value.detail}]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    data = file(scene(640, 480), kind)
    with pytest.raises(InvalidInput, match="damaged"):
        decode(data[: int(len(data) * share)])


def test_a_large_picture_is_refused_before_its_pixels_are_made() -> None:
    files = [png_of_size(8000, 5000), webp_of_size(16_384, 16_384), jpeg_of_size(30_000, 30_000)]
    tracemalloc.start()
    for data in files:
        with pytest.raises(InvalidInput):
            decode(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_that_lies_on_its_side_is_set_upright(orientation: int, kind: str) -> None:
    upright = PIL.Image.fromarray(scene(300, 200))
    back = {
        2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
        3: PIL.Image.Transpose.ROTATE_180,
        4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
        5: PIL.Image.Transpose.TRANSPOSE,
        6: PIL.Image.Transpose.ROTATE_90,
        7: PIL.Image.Transpose.TRANSVERSE,
        8: PIL.Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(back[orientation]) if orientation > 1 else upright
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    image = decode(file(stored, kind, exif=exif, **options))
    expected = decode(file(upright, kind, **options))
    assert image.pixels.shape == expected.pixels.shape
    assert np.abs(image.pixels.astype(int) - expected.pixels).mean() < (4 if kind == "JPEG" else 0.1)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_left_out(value: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = value
    assert decode(file(scene(), exif=exif)).pixels.shape == (120, 160)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_matter() -> None:
    assert decode(file(scene(), exif=b"Exif\x00\x00II*\x00" + b"\xff" * 40)).pixels.shape == (120, 160)


# --- what a file says it is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "expected"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp")])
def test_the_first_bytes_tell_the_media_type(kind: str, expected: str) -> None:
    data = file(scene(), kind)
    assert media_type(data) == media_type(data[:12]) == expected
    assert media_type(b" " + data) is None


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\x89PNG\r\n", b"RIFF\0\0\0\0WAVE", b"RIFFWEBP", file(scene(), "GIF")]
)
def test_other_files_have_none(data: bytes) -> None:
    assert media_type(data) is None


def test_asking_for_the_media_type_loads_no_image_library() -> None:
    code = "import sys, orchestrator.media; print(*({'cv2', 'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
