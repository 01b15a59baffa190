"""Pictures that anybody may send, verdicts, templates, and flags out of many frames. There are no real faces here."""

from __future__ import annotations

import io
import pickle
import random
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import PIL.Image
import pytest

from orchestrator import vision
from orchestrator.errors import InvalidInput
from orchestrator.vision import (
    Change,
    Eyes,
    Face,
    Flagger,
    Image,
    LbpVerifier,
    NotAnImage,
    Pixels,
    UnusableTemplate,
    Verdict,
    check_frame,
    decode,
)


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


# --- decoding ---------------------------------------------------------------------------------------------------------


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
    "too many bytes": (file(scene()) + bytes(vision.MAX_BYTES), "more than 5 MB"),
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_mutated_files_give_a_result_or_an_error_of_ours(kind: str) -> None:
    original = file(scene(), kind, **({"progressive": True} if kind == "JPEG" else {}))
    dice = random.Random(20)
    outcomes = set()
    for _ in range(300 if kind == "JPEG" else 100):
        data = bytearray(original)
        for _ in range(dice.randint(1, 12)):
            place = dice.randrange(len(data))
            match dice.randrange(3):
                case 0:
                    data[place] = dice.randrange(256)
                case 1:
                    del data[place : place + dice.randint(1, 30)]
                case _:
                    data[place:place] = dice.randbytes(dice.randint(1, 30))
        try:
            outcomes.add(check_frame(bytes(data), None, LbpVerifier()).verdict)
        except (InvalidInput, NotAnImage) as error:
            outcomes.add(type(error))
    assert len(outcomes) > 1


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(UnusableTemplate("x", engine="e")))
    assert (type(error), error.detail, error.fields) == (UnusableTemplate, "x", {"engine": "e"})
    assert NotAnImage.code == "not_an_image"


# --- detection, as far as it goes without faces -----------------------------------------------------------------------


def test_everything_needed_is_installed() -> None:
    vision.self_check()
    assert vision.cv2.getNumThreads() == 1


@pytest.mark.parametrize("shape", [(2, 2), (1, 320), (320, 1), (19, 19), (320, 26)])
def test_pictures_of_odd_shapes_have_no_faces(shape: tuple[int, int]) -> None:
    image = Image(np.full(shape, 77, np.uint8), "image/png")
    assert vision.detect(image) == []
    assert vision.obscured(image)
    assert [p.code for p in vision.assess_reference(image).problems] == ["camera_obscured"]


def test_a_face_found_from_two_sides_is_one_face(monkeypatch: pytest.MonkeyPatch) -> None:
    front, inside = Face(100, 50, 80, 80, "frontal", 20), Face(110, 60, 70, 70, "profile", 30)
    strong, weak = Face(10, 60, 60, 60, "profile", 9), Face(240, 60, 60, 60, "profile", 4)

    def found(frontal: list[Face], profile: list[Face]) -> list[Face]:
        answers = iter([profile, [], frontal])  # profiles, profiles in the mirror, frontal
        monkeypatch.setattr(vision, "_search", lambda view, pixels: next(answers))
        return vision.detect(Image(scene(320, 240), "image/jpeg"))

    assert found([front], [inside]) == [front]
    assert found([front], [strong]) == [front, strong]
    assert found([front], [weak]) == [front]
    assert found([], [weak]) == [weak]
    assert found([], [weak, strong]) == [strong]


def test_profiles_from_the_mirror_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([[], [Face(10, 20, 60, 60, "profile", 9)], []])
    monkeypatch.setattr(vision, "_search", lambda view, pixels: next(answers))
    assert vision.detect(Image(scene(320, 240), "image/jpeg")) == [Face(250, 20, 60, 60, "profile", 9)]


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.zeros((240, 320), np.uint8), True),
        (np.full((240, 320), 180, np.uint8), True),
        (np.random.default_rng(1).normal(20, 4, (240, 320)).clip(0, 255).astype(np.uint8), True),
        (np.tile(np.linspace(0, 255, 320).astype(np.uint8), (240, 1)), True),
        (scene(320, 240), False),
        ((scene(320, 240) // 3), False),
    ],
    ids=["black", "one colour", "dark noise", "glow", "scene", "dim scene"],
)
def test_a_covered_camera_is_told_from_a_picture(pixels: Pixels, expected: bool) -> None:
    assert vision.obscured(Image(pixels, "image/png")) is expected


class FixedVerifier:
    engine, engine_version, threshold = "fixed", "7", 0.5

    def __init__(self, answer: float | None) -> None:
        self.answer = answer

    def template(self, image: Image, face: Face) -> bytes:
        return b"t"

    def distance(self, template: bytes, image: Image, face: Face) -> float | None:
        assert template == b"t"
        return self.answer


ONE, OTHER = Face(10, 10, 50, 50, "frontal", 9), Face(90, 10, 50, 50, "frontal", 9)


@pytest.mark.parametrize(
    ("faces", "answer", "verdict"),
    [
        ([ONE], 0.5, Verdict.OK),
        ([ONE], 0.51, Verdict.FACE_MISMATCH),
        ([ONE], None, Verdict.OK),
        ([ONE, OTHER], 0.9, Verdict.MULTIPLE_FACES),
        ([], 0.9, Verdict.FACE_ABSENT),
    ],
)
def test_one_verdict_a_frame(
    monkeypatch: pytest.MonkeyPatch, faces: list[Face], answer: float | None, verdict: Verdict
) -> None:
    monkeypatch.setattr(vision, "detect", lambda image: faces)
    result = check_frame(file(scene()), b"t", FixedVerifier(answer))
    assert (result.verdict, result.faces, result.size) == (verdict, faces, (160, 120))
    assert result.distance == (answer if len(faces) == 1 else None)
    assert (result.engine, result.engine_version, result.threshold) == ("fixed", "7", 0.5)


def test_without_a_template_nothing_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "detect", lambda image: [ONE])
    result = check_frame(file(scene()), None, FixedVerifier(0.9))
    assert (result.verdict, result.distance, result.engine) == (Verdict.OK, None, None)


def test_a_covered_camera_is_more_than_an_absent_face() -> None:
    black = file(np.zeros((480, 640), np.uint8))
    assert check_frame(black, None, LbpVerifier()).verdict is Verdict.CAMERA_OBSCURED
    assert check_frame(file(scene()), None, LbpVerifier()).verdict is Verdict.FACE_ABSENT


# --- templates --------------------------------------------------------------------------------------------------------


@pytest.fixture
def eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "find_eyes", lambda image, face: Eyes((60, 50), (100, 50)))


def image_of(seed: int) -> Image:
    return Image(scene(seed=seed), "image/png")


@pytest.mark.usefixtures("eyes")
def test_a_template_says_how_far_a_picture_is_from_its_own() -> None:
    verifier = LbpVerifier()
    template = verifier.template(image_of(1), ONE)
    assert verifier.distance(template, image_of(1), ONE) == 0
    near = verifier.distance(template, Image((scene(seed=1) * 0.7).astype(np.uint8), "image/png"), ONE)
    far = verifier.distance(template, Image(scene(seed=1).T.copy(), "image/png"), ONE)
    assert near is not None and far is not None and 0 < near < far < 1
    assert len(template) < 6000


@pytest.mark.usefixtures("eyes")
def test_a_template_that_is_damaged_or_of_another_version_is_refused() -> None:
    verifier = LbpVerifier()
    template = verifier.template(image_of(1), ONE)
    body = zlib.compress(b"\0" * 10_000_000)
    wrong = {
        "no template": [b"", b"LB", bytes(len(template)), b"other" + template],
        "another version": [template[:4] + b"\x00\x02" + template[6:]],
        "damaged": [template[:-1], template + b"x", template[:40] + b"\0\0" + template[42:]],
        "damaged,": [template[:6] + struct.pack(">I", zlib.crc32(body)) + body],
        "damaged:": [template[:6] + struct.pack(">I", zlib.crc32(b"no zlib")) + b"no zlib"],
    }
    for reason, values in wrong.items():
        for value in values:
            with pytest.raises(UnusableTemplate, match=reason.rstrip(",:")):
                verifier.distance(value, image_of(1), ONE)


def test_a_face_without_eyes_is_not_compared() -> None:
    verifier, profile = LbpVerifier(), Face(10, 10, 50, 50, "profile", 9)
    for face in (ONE, profile):
        with pytest.raises(InvalidInput, match="both eyes visible"):
            verifier.template(image_of(1), face)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vision, "find_eyes", lambda image, face: Eyes((60, 50), (100, 50)))
        template = verifier.template(image_of(1), ONE)
    assert verifier.distance(template, image_of(1), profile) is None


def test_alignment_puts_eyes_at_their_places() -> None:
    for left, right in (((50, 40), (90, 60)), ((90, 100), (290, 60))):
        pixels = np.zeros((300, 400), np.uint8)
        for x, y in (left, right):
            size = max(3, round(np.hypot(right[0] - left[0], right[1] - left[1]) / 12))
            pixels[y - size : y + size + 1, x - size : x + size + 1] = 255
        face = LbpVerifier.aligned(pixels, Eyes(left, right))
        for half, expected in ((face[:, :48], 0.3 * 96), (face[:, 48:], 0.7 * 96 - 48)):
            rows, columns = np.nonzero(half > 100)
            assert columns.mean() == pytest.approx(expected, abs=1.5)
            assert rows.mean() == pytest.approx(0.38 * 96, abs=1.5)


# --- many frames ------------------------------------------------------------------------------------------------------

LETTERS = {
    "o": Verdict.OK,
    "a": Verdict.FACE_ABSENT,
    "m": Verdict.MULTIPLE_FACES,
    "x": Verdict.FACE_MISMATCH,
    "c": Verdict.CAMERA_OBSCURED,
}
A, M = Verdict.FACE_ABSENT, Verdict.MULTIPLE_FACES


def run(flagger: Flagger, letters: str, step: int = 1000) -> list[Change]:
    """One frame a letter, `step` ms apart, the first at 0."""
    return [change for i, letter in enumerate(letters) for change in flagger.add(i * step, LETTERS[letter])]


@pytest.mark.parametrize(
    ("letters", "changes"),
    [
        ("oooo", []),
        ("oaooaooaoo", []),
        ("ooaao", [(A, "began", 2000)]),
        ("oaoao", [(A, "began", 1000), (A, "ended", 4000)]),
        ("oaaoo", [(A, "began", 1000), (A, "ended", 3000)]),
        ("aaaaa", [(A, "began", 0)]),
        ("aaoaaoo", [(A, "began", 0), (A, "ended", 5000)]),
        ("aammm", [(A, "began", 0), (M, "began", 2000), (A, "ended", 2000)]),
        ("amamam", [(A, "began", 0), (M, "began", 1000), (A, "ended", 3000), (M, "ended", 4000)]),
    ],
)
def test_two_of_three_frames_make_a_flag(letters: str, changes: list[tuple[Verdict, str, int]]) -> None:
    got = run(Flagger(), letters)
    if letters == "amamam":
        assert {(c.kind, c.edge, c.at_ms) for c in got[:2]} == set(changes[:2])
    else:
        assert sorted((c.at_ms, c.kind, c.edge) for c in got) == sorted((at, kind, edge) for kind, edge, at in changes)


def test_stills_are_dense_near_a_flag_only() -> None:
    flagger = Flagger()
    seen = []
    for i, letter in enumerate("ooaooooaaooo"):
        flagger.add(i * 1000, LETTERS[letter])
        seen.append(flagger.dense)
    assert seen == [False, False, True, True, True, False, False, True, True, True, True, False]


def test_other_numbers_can_be_chosen() -> None:
    assert run(Flagger(1, 1), "oao") == [Change(A, "began", 1000), Change(A, "ended", 2000)]
    assert run(Flagger(3, 5), "aoaoo") == []
    assert run(Flagger(3, 5), "aoaoa") == [Change(A, "began", 0)]
    for needed, window in ((0, 3), (4, 3)):
        with pytest.raises(ValueError, match="needed"):
            Flagger(needed, window)


def test_after_a_silence_everything_starts_afresh() -> None:
    flagger = Flagger(silence_ms=10_000)
    run(flagger, "aaa")
    assert flagger.open == {A}
    assert flagger.add(12_001, A) == [Change(A, "ended", 2000)]
    assert flagger.open == frozenset()
    assert flagger.add(13_000, A) == [Change(A, "began", 12_001)]


def test_the_end_closes_what_is_open() -> None:
    flagger = Flagger()
    run(flagger, "cc")
    assert flagger.close(1500) == [Change(Verdict.CAMERA_OBSCURED, "ended", 1500)]
    assert flagger.close() == [] and not flagger.dense


def test_a_late_or_repeated_frame_is_left_out() -> None:
    flagger = Flagger()
    flagger.add(1000, A)
    assert flagger.add(1000, A) == [] and flagger.add(500, A) == []
    assert flagger.open == frozenset()
    assert flagger.add(2000, A) == [Change(A, "began", 1000)]


def test_every_interval_that_begins_ends_once_and_later() -> None:
    dice = random.Random(3)
    for _ in range(200):
        flagger = Flagger()
        letters = "".join(dice.choice("ooaamxc") for _ in range(40))
        changes = [*run(flagger, letters), *flagger.close()]
        for kind in Verdict:
            own = [change for change in changes if change.kind is kind]
            assert [c.edge for c in own] == ["began", "ended"] * (len(own) // 2)
            assert all(begin.at_ms < end.at_ms for begin, end in zip(own[::2], own[1::2], strict=True))
