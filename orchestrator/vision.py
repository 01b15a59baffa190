"""Faces in still pictures: is the candidate there, alone, and probably the same person as at the start?

Pure functions on pictures, nothing is kept or sent. What is found here informs people; nothing may be decided by it
alone.

    detect             a picture                            -> the faces in it
    assess_reference   a picture for reference              -> may it serve, and what should be done better
    check_frame        a file during the interview          -> one verdict

Files become pictures in `orchestrator/pictures.py`. What the verdicts mean, and how many of them become one flag, is in
`orchestrator/interview/flags.py`.

Faces are found with Haar cascades that the OpenCV package ships. They are compared by histograms of local binary
patterns, which is weak: docs/faces.md has the figures. A stronger engine goes behind `FaceVerifier`.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import PIL.features
from numpy.typing import NDArray

from orchestrator.errors import InvalidInput, UnusableTemplate
from orchestrator.interview.flags import Verdict
from orchestrator.pictures import FRAME_SIDE, Image, Pixels, decode

# --- detection --------------------------------------------------------------------------------------------------------

CASCADES = {
    "frontal": "haarcascade_frontalface_alt2.xml",
    "profile": "haarcascade_profileface.xml",
    "eye": "haarcascade_eye_tree_eyeglasses.xml",
    "plain_eye": "haarcascade_eye.xml",
}
STEP = 1.2
"""Sizes that are searched grow by this factor."""
SECOND_LOOK = ((1.1, 0.0), (1.2, 20.0), (1.2, -20.0))
"""Steps, and degrees by which the picture is turned, for a second look where no face was found at first."""
SMALLEST = {"frontal": 1 / 8, "profile": 1 / 6}
"""Faces are searched from this share of the shorter side on: who sits far behind is not seen."""
MIN_AGREEMENT = {"frontal": 3, "profile": 3}
MIN_AGREEMENT_BESIDE = 6
"""For a profile beside another face: a false one there would accuse somebody of company."""
MAX_GAIN = 6.0
"""How far a dark or flat picture is stretched before the search; a cascade sees nothing in areas of little contrast."""

_lock = threading.Lock()
"""A cascade may not be used by two threads at once."""


@dataclass(frozen=True, slots=True)
class Face:
    """A square around a face, in px of the picture. `agreement`: how many overlapping finds it was merged from."""

    x: int
    y: int
    width: int
    height: int
    view: Literal["frontal", "profile"]
    agreement: int

    def covers(self, other: Face) -> bool:
        """Whether both are one face: either's centre lies in the other."""
        return self._holds(other) or other._holds(self)

    def _holds(self, other: Face) -> bool:
        x, y = other.x + other.width / 2 - self.x, other.y + other.height / 2 - self.y
        return 0 <= x <= self.width and 0 <= y <= self.height


@lru_cache(1)
def _cascades() -> dict[str, cv2.CascadeClassifier]:
    """Loaded once per process. From then on OpenCV keeps to the thread that calls it."""
    cv2.setNumThreads(1)
    folder = Path(cv2.__file__).with_name("data")
    loaded = {name: cv2.CascadeClassifier(str(folder / file)) for name, file in CASCADES.items()}
    for name, cascade in loaded.items():
        if cascade.empty():
            raise RuntimeError(f"OpenCV's package does not have {CASCADES[name]}")
    return loaded


def self_check() -> None:
    """Raises RuntimeError unless everything that this module needs is installed."""
    _cascades()
    for feature in ("jpg", "zlib", "webp"):
        if not PIL.features.check(feature):
            raise RuntimeError(f"Pillow is built without {feature}")


def detect(image: Image) -> list[Face]:
    """Faces in the picture, the largest first."""
    pixels = _stretched(image.pixels)
    found: list[Face] = []
    sideways = [*_search("profile", pixels), *_mirrored(_search("profile", np.fliplr(pixels)), image.width)]
    frontal = _search("frontal", pixels)
    for face in [*frontal, *sorted(sideways, key=lambda face: -face.agreement)]:
        beside = bool(found) and face.view == "profile"
        if any(face.covers(other) for other in found) or (beside and face.agreement < MIN_AGREEMENT_BESIDE):
            continue
        found.append(face)
    return sorted(found or _second_look(pixels), key=lambda face: -face.width)


def _second_look(pixels: Pixels) -> list[Face]:
    """For a head that leans, or that was just missed: an absent face is the commonest false alarm."""
    height, width = pixels.shape
    for step, degrees in SECOND_LOOK:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        turned = cv2.warpAffine(pixels, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        if faces := _search("frontal", turned.astype(np.uint8, copy=False), step):
            return [_turned_back(faces[0], cv2.invertAffineTransform(turn), width, height)]
    return []


def _turned_back(face: Face, back: NDArray[Any], width: int, height: int) -> Face:
    """The square around the same centre, moved into the picture where it sticks out."""
    x, y = back @ (face.x + face.width / 2, face.y + face.height / 2, 1.0)
    left = min(max(0, round(x - face.width / 2)), width - face.width)
    top = min(max(0, round(y - face.height / 2)), height - face.height)
    return replace(face, x=left, y=top)


def _stretched(pixels: Pixels) -> Pixels:
    """All but the darkest and brightest hundredth spread over 0 to 255."""
    low, high = (float(level) for level in np.percentile(pixels, (1, 99)))
    gain = min(MAX_GAIN, 255 / max(1.0, high - low))
    return np.clip((pixels.astype(np.float32) - low) * gain, 0, 255).astype(np.uint8)


def _search(view: Literal["frontal", "profile"], pixels: Pixels, step: float = STEP) -> list[Face]:
    smallest = max(20, round(min(pixels.shape) * SMALLEST[view]))
    boxes, agreements = _find(view, pixels, step, MIN_AGREEMENT[view], (smallest, smallest))
    faces = [Face(*box, view, count) for box, count in zip(boxes, agreements, strict=True)]
    return sorted(faces, key=lambda face: -face.agreement)


def _mirrored(faces: Iterable[Face], width: int) -> list[Face]:
    return [Face(width - f.x - f.width, f.y, f.width, f.height, f.view, f.agreement) for f in faces]


def _find(
    cascade: str,
    pixels: Pixels,
    step: float,
    agreement: int,
    smallest: tuple[int, int],
    largest: tuple[int, int] = (0, 0),
) -> tuple[list[tuple[int, int, int, int]], list[int]]:
    """Boxes (x, y, width, height) in px, and of how many raw finds each was merged."""
    with _lock:
        boxes, counts = _cascades()[cascade].detectMultiScale2(
            np.ascontiguousarray(pixels), step, agreement, minSize=smallest, maxSize=largest
        )
    return [(int(x), int(y), int(w), int(h)) for x, y, w, h in boxes], [int(count) for count in counts]


@dataclass(frozen=True, slots=True)
class Eyes:
    """Centres of the two eyes in px: `left` is the one that is further left in the picture."""

    left: tuple[float, float]
    right: tuple[float, float]

    @property
    def distance(self) -> float:
        return float(np.hypot(self.right[0] - self.left[0], self.right[1] - self.left[1]))

    @property
    def roll(self) -> float:
        """Degrees by which the head leans, positive clockwise."""
        return float(np.degrees(np.arctan2(self.right[1] - self.left[1], self.right[0] - self.left[0])))


_EYE_BAND = 0.62
"""The upper share of a face in which eyes are searched."""
_EYE_HEIGHTS = (0.25, 0.55)
_EYE_HALVES = ((0.0, 0.55), (0.45, 1.0))
EYE_STEP = 1.15
_EYE_SCALE = 120
"""Width in px to which a face is scaled for this."""


def find_eyes(image: Image, face: Face) -> Eyes | None:
    """Both eyes of a frontal face, or None: turned away, closed, behind dark or reflecting glasses, or just missed."""
    if face.view != "frontal":
        return None
    scale = _EYE_SCALE / face.width
    upper = image.pixels[face.y : face.y + round(face.height * _EYE_BAND), face.x : face.x + face.width]
    upper = _stretched(cv2.resize(upper, None, fx=scale, fy=scale).astype(np.uint8, copy=False))
    centres: list[tuple[float, float]] = []
    for begin, end in _EYE_HALVES:
        offset = int(begin * _EYE_SCALE)
        centre = _eye(upper[:, offset : int(end * _EYE_SCALE)])
        if centre is None:
            return None
        centres.append(((centre[0] + offset) / scale + face.x, centre[1] / scale + face.y))
    eyes = Eyes(*centres)
    plausible = abs(eyes.roll) <= 25 and 0.25 < eyes.distance / face.width < 0.55
    return eyes if plausible else None


def _eye(half: Pixels) -> tuple[float, float] | None:
    low, high = (share * _EYE_SCALE for share in _EYE_HEIGHTS)
    for cascade in ("eye", "plain_eye"):
        boxes, agreements = _find(cascade, half, EYE_STEP, 2, (18, 18), (48, 48))
        found = [
            (count, (x + w / 2, y + h / 2))
            for (x, y, w, h), count in zip(boxes, agreements, strict=True)
            if low < y + h / 2 < high
        ]
        if found:
            return max(found)[1]
    return None


# --- the reference picture --------------------------------------------------------------------------------------------

MIN_FACE_SHARE = 0.25
"""Least height of the face, as a share of the picture's."""
MIN_FACE_PX = 80
MIN_SHARPNESS = 60.0
"""Least variance of the Laplacian on the inner face, scaled to INNER_PX."""
INNER_PX = 64
LIGHT = (45.0, 215.0)
"""Least and greatest mean luminance of the inner face."""
MAX_CLIPPED = 0.15
"""Greatest share of the inner face that is pure black (at most 5) or pure white (at least 250)."""
MAX_ROLL = 15.0
"""Degrees."""

ADVICE = {
    "no_face": "No face was found: look straight into the camera, with nothing before your face.",
    "several_faces": "More than one face was found: be alone in the picture, with no photos or posters behind you.",
    "camera_obscured": "The picture shows nothing: uncover the camera and check that it is the right one.",
    "too_small": "Come closer: your face should fill about a third of the picture's height.",
    "blurred": "The picture is blurred: hold still, and wipe the camera's lens.",
    "too_dark": "Your face is too dark: turn on a light in front of you, and have no window behind you.",
    "too_bright": "Your face is too bright: turn away from the lamp or the sun.",
    "harsh_light": "Parts of your face are pure black or white: use a softer light from the front.",
    "not_frontal": "Look straight into the camera, head upright, both eyes visible; take off dark glasses.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a picture cannot serve, and what the candidate can do about it."""

    code: str
    advice: str


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of a reference picture. Those of the face are None unless there is exactly one.

    `face_share`: its height / the picture's. `sharpness`: variance of the Laplacian. `brightness`: mean luminance of
    the inner face, 0 to 255. `clipped`: share of it that is pure black or white. `roll`: degrees, None if the eyes were
    not found.
    """

    faces: int
    problems: list[Problem]
    face: Face | None = None
    face_share: float | None = None
    sharpness: float | None = None
    brightness: float | None = None
    clipped: float | None = None
    roll: float | None = None

    @property
    def ok(self) -> bool:
        return not self.problems


def assess_reference(image: Image) -> Quality:
    """Whether the picture can serve as reference; decode it with REFERENCE_SIDE."""
    faces = detect(image)
    if len(faces) != 1:
        codes = ["several_faces" if faces else "camera_obscured" if obscured(image) else "no_face"]
        if codes == ["no_face"] and not LIGHT[0] <= image.brightness <= LIGHT[1]:
            codes.append("too_dark" if image.brightness < LIGHT[0] else "too_bright")
        return Quality(len(faces), [Problem(code, ADVICE[code]) for code in codes])
    face = faces[0]
    inner = _inner(image, face)
    eyes = find_eyes(image, face)
    share, brightness = face.height / image.height, float(inner.mean())
    clipped = float(np.mean((inner <= 5) | (inner >= 250)))
    sharpness = _sharpness(inner)
    checks = {
        "too_small": share < MIN_FACE_SHARE or face.height < MIN_FACE_PX,
        "too_dark": brightness < LIGHT[0],
        "too_bright": brightness > LIGHT[1],
        "harsh_light": LIGHT[0] <= brightness <= LIGHT[1] and clipped > MAX_CLIPPED,
        "blurred": sharpness < MIN_SHARPNESS,
        "not_frontal": eyes is None or abs(eyes.roll) > MAX_ROLL,
    }
    problems = [Problem(code, ADVICE[code]) for code, wrong in checks.items() if wrong]
    return Quality(1, problems, face, share, sharpness, brightness, clipped, eyes.roll if eyes else None)


def _inner(image: Image, face: Face) -> Pixels:
    """The face without hair and background."""
    x, y, size = face.x, face.y, face.width
    return image.pixels[y + size // 5 : y + size * 17 // 20, x + size // 5 : x + size * 4 // 5]


def _sharpness(inner: Pixels) -> float:
    """At one size and contrast, so that neither a large nor a well-lit face counts as sharp."""
    small = cv2.resize(inner, (INNER_PX, INNER_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    small *= 50.0 / max(5.0, float(small.std()))
    return float(cv2.Laplacian(small, cv2.CV_32F).var())


# --- is it the same face ----------------------------------------------------------------------------------------------


class FaceVerifier(Protocol):
    """Compares faces. `threshold`: a greater distance is a mismatch."""

    @property
    def engine(self) -> str: ...

    @property
    def engine_version(self) -> str: ...

    @property
    def threshold(self) -> float: ...

    def template(self, image: Image, face: Face) -> bytes:
        """What is kept of a reference face: biometric data. Raises InvalidInput if the face cannot serve."""
        ...

    def distance(self, template: bytes, image: Image, face: Face) -> float | None:
        """0 for the same picture; None if this face cannot be compared. Raises UnusableTemplate."""
        ...


def _uniform_patterns() -> NDArray[np.uint8]:
    """Label of each of the 256 patterns: the 58 with at most two changes around the circle, and one for all others.

    After Ojala, Pietikäinen, Mäenpää: Multiresolution gray-scale and rotation invariant texture classification with
    local binary patterns, 2002.
    """
    labels = np.full(256, 58, np.uint8)
    uniform = [p for p in range(256) if (p ^ ((p >> 1) | ((p & 1) << 7))).bit_count() <= 2]
    labels[uniform] = np.arange(len(uniform))
    return labels


class LbpVerifier:
    """Chi-square distance of uniform local binary patterns, cell by cell, on a face that was aligned by its eyes.

    Local contrast is evened out first by gamma and a difference of Gaussians, as Tan and Triggs do (Enhanced local
    texture feature sets for face recognition under difficult lighting conditions, 2010). Only faces with both eyes
    found are compared: without alignment the distance says hardly anything.
    """

    engine = "lbp-chi2"
    engine_version = "1"

    SIZE = 96
    """Side of the aligned face, px."""
    GRID = 7
    RADIUS = 2
    LABELS = 59
    EYE_LINE, EYE_DISTANCE = 0.38, 0.40
    """Where alignment puts the eyes, as shares of SIZE."""
    GAMMA, INNER_SIGMA, OUTER_SIGMA = 0.2, 0.8, 2.0
    _HEADER = struct.Struct(">4sHI")
    _MAGIC = b"LBPU"
    _PATTERNS = _uniform_patterns()

    def __init__(self, threshold: float = 0.26) -> None:
        self.threshold = threshold

    def template(self, image: Image, face: Face) -> bytes:
        """The histogram, about 2 KB. No face can be drawn from it, but it can be recognised by it."""
        histogram = self._histogram(image, face)
        if histogram is None:
            raise InvalidInput.at("/image", ADVICE["not_frontal"])
        body = zlib.compress(histogram.astype(">u2").tobytes(), 9)
        return self._HEADER.pack(self._MAGIC, int(self.engine_version), zlib.crc32(body)) + body

    def distance(self, template: bytes, image: Image, face: Face) -> float | None:
        known = self._unpack(template)
        seen = self._histogram(image, face)
        if seen is None:
            return None
        return self._chi_square(known, seen)

    def _unpack(self, template: bytes) -> NDArray[np.int64]:
        head, body = template[: self._HEADER.size], template[self._HEADER.size :]
        if len(head) < self._HEADER.size or not head.startswith(self._MAGIC):
            raise UnusableTemplate("This is no template of this engine.", engine=self.engine)
        _, version, checksum = self._HEADER.unpack(head)
        if version != int(self.engine_version):
            raise UnusableTemplate(
                "The template was made by another version.", engine=self.engine, version=str(version)
            )
        shape = (self.GRID**2, self.LABELS)
        expected = 2 * shape[0] * shape[1]
        if checksum != zlib.crc32(body):
            raise UnusableTemplate("The template is damaged.", engine=self.engine)
        try:
            raw = zlib.decompressobj().decompress(body, expected + 1)
        except zlib.error:
            raw = b""
        if len(raw) != expected:
            raise UnusableTemplate("The template is damaged.", engine=self.engine)
        return np.frombuffer(raw, ">u2").astype(np.int64).reshape(shape)

    def _histogram(self, image: Image, face: Face) -> NDArray[np.int64] | None:
        """Counts, shape (GRID², LABELS)."""
        eyes = find_eyes(image, face)
        if eyes is None:
            return None
        labels = self._PATTERNS[self._codes(self._even(self.aligned(image.pixels, eyes)))]
        cells = np.arange(len(labels)) * self.GRID // len(labels)
        keys = (cells[:, None] * self.GRID + cells[None, :]) * self.LABELS + labels
        counts = np.bincount(keys.ravel(), minlength=self.GRID**2 * self.LABELS)
        return counts.reshape(self.GRID**2, self.LABELS)

    @classmethod
    def aligned(cls, pixels: Pixels, eyes: Eyes) -> Pixels:
        """SIZE x SIZE px with both eyes on a level, always at the same places."""
        scale = cls.EYE_DISTANCE * cls.SIZE / eyes.distance
        x, y = (eyes.left[0] + eyes.right[0]) / 2, (eyes.left[1] + eyes.right[1]) / 2
        while scale < 0.6:  # the warp below takes single px, and would alias
            pixels = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
            x, y, scale = x / 2, y / 2, scale * 2
        turn = cv2.getRotationMatrix2D((x, y), eyes.roll, scale)
        turn[:, 2] += cls.SIZE / 2 - x, cls.EYE_LINE * cls.SIZE - y
        face = cv2.warpAffine(pixels, turn, (cls.SIZE, cls.SIZE), borderMode=cv2.BORDER_REPLICATE)
        return face.astype(np.uint8, copy=False)

    def _even(self, face: Pixels) -> NDArray[np.float32]:
        light = ((face.astype(np.float32) + 1) / 256) ** self.GAMMA
        fine, coarse = (cv2.GaussianBlur(light, (0, 0), sigma) for sigma in (self.INNER_SIGMA, self.OUTER_SIGMA))
        return (fine - coarse).astype(np.float32)

    def _codes(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """For each pixel one bit for each of its eight neighbours at RADIUS: is it at least as bright?"""
        radius, side = self.RADIUS, len(values) - 2 * self.RADIUS
        centre = values[radius:-radius, radius:-radius]
        codes = np.zeros_like(centre, np.uint8)
        for bit, angle in enumerate(np.arange(8) * np.pi / 4):
            down, right = radius + round(radius * np.sin(angle)), radius + round(radius * np.cos(angle))
            codes |= (values[down : down + side, right : right + side] >= centre).astype(np.uint8) << bit
        return codes

    @staticmethod
    def _chi_square(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
        """Half the sum of (a-b)²/(a+b) over shares in a cell, averaged over cells: 0 to 1."""
        first, second = (counts / np.maximum(1, counts.sum(1, keepdims=True)) for counts in (a, b))
        return float(((first - second) ** 2 / np.maximum(first + second, 1e-12)).sum(1).mean() / 2)


# --- one frame --------------------------------------------------------------------------------------------------------

BLACK = 32
"""Luminance under which nearly everything must be for a frame to be called black."""
OUTLINE = (0.025, 2.0, 6.0)
"""How steep a step must be to be an outline, after smoothing by 2 px against noise: this share of the brightest
luminance per px, but at least and at most so much."""
MIN_OUTLINES = 0.005
"""Least share of px on outlines; a covered lens shows fewer."""


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What one frame shows. Boxes of `faces` are in px of a picture of `size` (width, height).

    `distance` is None if nothing was compared: no template, not exactly one face, or a face that cannot be compared.
    `threshold`, `engine`, `engine_version` are those of the verifier, None without a template.
    """

    verdict: Verdict
    faces: list[Face]
    size: tuple[int, int]
    brightness: float
    distance: float | None = None
    threshold: float | None = None
    engine: str | None = None
    engine_version: str | None = None


def check_frame(data: bytes, template: bytes | None, verifier: FaceVerifier, side: int = FRAME_SIDE) -> FrameResult:
    """One verdict about one file. Raises what `decode` and `verifier.distance` raise."""
    image = decode(data, side)
    faces = detect(image)
    distance = None
    if template is not None and len(faces) == 1:
        distance = verifier.distance(template, image, faces[0])
    if not faces:
        verdict = Verdict.CAMERA_OBSCURED if obscured(image) else Verdict.FACE_ABSENT
    elif len(faces) > 1:
        verdict = Verdict.MULTIPLE_FACES
    else:
        mismatch = distance is not None and distance > verifier.threshold
        verdict = Verdict.FACE_MISMATCH if mismatch else Verdict.OK
    result = FrameResult(verdict, faces, (image.width, image.height), image.brightness)
    if template is None:
        return result
    return replace(
        result,
        distance=distance,
        threshold=verifier.threshold,
        engine=verifier.engine,
        engine_version=verifier.engine_version,
    )


def obscured(image: Image) -> bool:
    """Nearly black, or without any outline: a covered lens, a blank picture. Only asked when no face was found."""
    brightest = float(np.percentile(image.pixels, 99))
    if brightest < BLACK:
        return True
    share, least, most = OUTLINE
    steep = min(most, max(least, share * brightest))
    smooth = cv2.GaussianBlur(image.pixels.astype(np.float32), (0, 0), 2.0)
    steps = np.hypot(np.diff(smooth, axis=0)[:, :-1], np.diff(smooth, axis=1)[:-1, :])
    return float(np.mean(steps > steep)) < MIN_OUTLINES if steps.size else True
