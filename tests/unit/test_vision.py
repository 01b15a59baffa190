"""Verdicts about frames, and templates. There are no real faces here."""

from __future__ import annotations

import pickle
import random
import struct
import zlib

import numpy as np
import pytest

from orchestrator import vision
from orchestrator.errors import InvalidInput, NotAnImage, UnusableTemplate
from orchestrator.interview.flags import Verdict
from orchestrator.pictures import Image, Pixels
from orchestrator.vision import Eyes, Face, LbpVerifier, check_frame
from tests.unit.test_pictures import file, scene

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


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(UnusableTemplate("x", engine="e")))
    assert (type(error), error.detail, error.fields) == (UnusableTemplate, "x", {"engine": "e"})
    assert NotAnImage.code == "not_an_image"
