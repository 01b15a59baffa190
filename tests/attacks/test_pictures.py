"""Pictures that are none, or too much of one."""

from __future__ import annotations

import base64
import contextlib
import io
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import AsyncIterator

import pytest

from orchestrator.errors import InvalidInput, OrchestratorError
from orchestrator.pictures import MAX_PIXELS, decode
from tests.attacks.world import closed
from tests.unit.api_world import BASE
from tests.unit.test_pictures import animated, file, jpeg_of_size, png_of_size, scene, webp_of_size

MEMORY_BYTES = 80 * 2**20
SECONDS = 2.0


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", bytes(50_000_000))
    return buffer.getvalue()


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    """A small PNG with more chunks in it."""
    whole = file(scene(64, 48), "PNG")
    more = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return whole[:33] + more + whole[33:]


def text_bomb() -> bytes:
    packed = zlib.compress(bytes(60_000_000), 9)
    return png_with(*([(b"zTXt", b"Comment\0\0" + packed)] * 4), (b"iCCP", b"x\0\0" + packed))


def svg(what: str) -> bytes:
    return f'<svg xmlns="http://www.w3.org/2000/svg"><script>pwned</script>{what}</svg>'.encode()


BOMBS: dict[str, bytes] = {
    "a PNG of 15000x15000": png_of_size(15_000, 15_000),
    "a PNG of one line": png_of_size(1_000_000, 2),
    "a PNG just beyond the limit": png_of_size(4_000, MAX_PIXELS // 4_000 + 1),
    "a PNG that claims four billion": png_of_size(2, 2)[:16]
    + b"\xff\xff\xff\xff\xff\xff\xff\xff"
    + png_of_size(2, 2)[24:],
    "a PNG of no size": png_of_size(2, 2)[:16] + bytes(8) + png_of_size(2, 2)[24:],
    "a WebP of 16383x16383": webp_of_size(16_383, 16_383),
    "a WebP beyond numbers": webp_of_size(2**24, 2**24),
    "a JPEG of 65535x65535": jpeg_of_size(65_535, 65_535),
    "an animated WebP": animated("WEBP"),
    "a ZIP": zipped(),
    "a ZIP that begins like a PNG": b"\x89PNG\r\n\x1a\n" + zipped(),
    "a ZIP that begins like a JPEG": b"\xff\xd8\xff" + zipped(),
    "a ZIP that begins like a WebP": b"RIFF\0\0\0\0WEBP" + zipped(),
    "an SVG": svg(""),
    "an SVG that includes a file": svg('<image href="file:///etc/passwd"/>'),
    "a page": b"<!doctype html><script>window.pwned = 1</script>",
    "PostScript": b"%!PS-Adobe-3.0\n(/etc/passwd) (r) file",
    "a PDF": b"%PDF-1.7\n",
    "a GIF": b"GIF89a" + bytes(100),
    "half a PNG": png_of_size(400, 300)[:60],
    "half a JPEG": file(scene())[:200],
    "only a beginning": b"\xff\xd8\xff",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_picture_that_is_a_bomb_is_refused_before_it_goes_off(bomb: str) -> None:
    tracemalloc.start()
    try:
        began = time.perf_counter()
        with pytest.raises(OrchestratorError):
            decode(BOMBS[bomb])
        assert time.perf_counter() - began < SECONDS and tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
    finally:
        tracemalloc.stop()


def test_text_and_profiles_in_a_picture_are_not_unpacked_without_end() -> None:
    tracemalloc.start()
    try:
        began = time.perf_counter()
        with contextlib.suppress(InvalidInput):
            assert decode(text_bomb()).width == 64
        assert time.perf_counter() - began < SECONDS and tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
    finally:
        tracemalloc.stop()


async def test_what_is_no_picture_is_415_whatever_it_calls_itself() -> None:
    async with closed() as world:
        url = f"{BASE}/session/{world.mine['session_id']}"
        await world.http.post(f"{url}/start", headers=world.token)
        for bomb in ("a ZIP", "an SVG", "a page", "PostScript", "a PDF", "a GIF"):
            as_json = {"image": base64.b64encode(BOMBS[bomb]).decode()}
            answer = await world.http.post(f"{url}/proctoring/frame", json=as_json, headers=world.token)
            assert answer.status_code == 415, bomb
            headers = {"Content-Type": "image/png", **world.token}
            answer = await world.http.post(f"{url}/proctoring/frame", content=BOMBS[bomb], headers=headers)
            assert answer.status_code == 415, bomb
        assert world.client.pictures.called == [], "nobody was asked to look at them"


async def test_a_picture_from_a_stranger_is_not_read() -> None:
    async with closed() as world:
        url = f"{BASE}/session/{world.mine['session_id']}/proctoring/frame"
        read: list[int] = []

        async def body() -> AsyncIterator[bytes]:
            for number in range(100):
                read.append(number)
                yield b"\xff\xd8\xff" * 1_000

        answer = await world.http.post(url, content=body(), headers={"Content-Type": "image/jpeg"})
        assert answer.status_code == 401 and read == []


async def test_pictures_come_back_so_that_no_browser_runs_them() -> None:
    """They are shown as what they were taken for, in a sandbox, and guessed at by nobody."""
    from api.routes.proctoring import PICTURE_HEADERS

    assert PICTURE_HEADERS["X-Content-Type-Options"] == "nosniff"
    assert PICTURE_HEADERS["Content-Security-Policy"] == "default-src 'none'; sandbox"
    async with closed() as world:
        for what in ("reference", "evidence/x"):
            url = f"{BASE}/session/{world.mine['session_id']}/proctoring/{what}"
            assert (await world.http.get(url, headers=world.token)).status_code == 403
