"""How well faces are found and compared: `python benchmarks/faces.py [--people FOLDER]`. Prints tables in Markdown.

Scenes are made from pictures in scikit-image: `lfw_subset` (100 faces and 100 other patches of 25x25 px), `astronaut`,
and photographs without people. Every scene is a JPEG file that goes through `check_frame` as a candidate's would.
Seeds are fixed. With --people, faces in photographs of your own are compared too: one sub-folder a person.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data as pictures

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from orchestrator import vision  # noqa: E402
from orchestrator.interview.flags import Verdict  # noqa: E402
from orchestrator.pictures import REFERENCE_SIDE, Image, Pixels, decode  # noqa: E402
from orchestrator.vision import FaceVerifier, LbpVerifier, Quality  # noqa: E402

WIDTH, HEIGHT = 640, 480
FACE = 200
"""Side in px of a face in a usual frame."""
EMPTY = [
    *("brick", "camera", "cat", "clock", "coffee", "coins", "grass", "gravel", "horse", "hubble_deep_field", "moon"),
    *("page", "rocket", "text", "retina", "immunohistochemistry", "colorwheel", "checkerboard", "cell", "logo"),
    "microaneurysms",
]
"""Photographs without a face that could be compared; the man in `camera` is seen from the side, far away."""
Change = Callable[[Pixels], Pixels]


# --- scenes -----------------------------------------------------------------------------------------------------------


def clip(values: NDArray[Any]) -> Pixels:
    return np.clip(values, 0, 255).astype(np.uint8)


@cache
def patches() -> NDArray[np.uint8]:
    """Shape (200, 25, 25): 100 faces, then 100 patches that are none."""
    return clip(pictures.lfw_subset() * 255)


def faces() -> list[Pixels]:
    return list(patches()[:100])


@cache
def astronaut() -> Pixels:
    """One real photograph with one face, cut to 4:3 so that the face is as large as in front of a webcam."""
    grey = np.asarray(cv2.cvtColor(pictures.astronaut(), cv2.COLOR_RGB2GRAY))
    return clip(cv2.resize(grey[:270, 50:410], (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))


def room(seed: int) -> Pixels:
    """A wall with light falling off, a shelf, and a camera's noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    wall = 120 + 40 * np.sin(x / 190 + seed) + 25 * np.cos(y / 120 + 2 * seed)
    left, top = random.integers(0, WIDTH - 150), random.integers(0, 120)
    wall[top : top + 90, left : left + 150] -= 50
    wall[top : top + 6, left : left + 150] += 60
    return clip(wall + random.normal(0, 3, wall.shape))


def paste(scene: Pixels, patch: Pixels, side: int, left: int, top: int) -> Pixels:
    """The patch scaled to `side` px, its corners fading into the scene."""
    large = cv2.resize(patch, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    mask = np.zeros((side, side), np.float32)
    cv2.circle(mask, (side // 2, side // 2), round(side * 0.52), 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), side * 0.05)
    result = scene.copy()
    part = result[top : top + side, left : left + side]
    part[:] = clip(large * mask + part * (1 - mask))
    return result


def portrait(patch: Pixels, seed: int, side: int = FACE) -> Pixels:
    return paste(room(seed), patch, side, (WIDTH - side) // 2, (HEIGHT - side) // 3)


def jpeg(scene: Pixels, quality: int = 85) -> bytes:
    return cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def light(gain: float) -> Change:
    return lambda scene: clip(scene * gain)


def blur(sigma: float) -> Change:
    return lambda scene: clip(cv2.GaussianBlur(scene, (0, 0), sigma))


def noise(sigma: float) -> Change:
    return lambda scene: clip(scene + np.random.default_rng(7).normal(0, sigma, scene.shape))


def warp(degrees: float = 0, scale: float = 1, right: int = 0) -> Change:
    def change(scene: Pixels) -> Pixels:
        turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2.4), degrees, scale)
        turn[0, 2] += right
        return clip(cv2.warpAffine(scene, turn, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT))

    return change


def side_light(scene: Pixels) -> Pixels:
    return clip(scene * np.linspace(0.35, 1.3, WIDTH)[None, :])


def covered(scene: Pixels) -> Pixels:
    """The lower half of a face at the usual place behind a hand or a mask."""
    result = scene.copy()
    top, left = (HEIGHT - FACE) // 3, (WIDTH - FACE) // 2
    result[top + FACE * 55 // 100 : top + FACE, left : left + FACE] = 130
    return result


def same(scene: Pixels) -> Pixels:
    return scene


CHANGES: dict[str, Change] = {
    "as it is": same,
    "light x 0.3": light(0.3),
    "light x 0.1": light(0.1),
    "light x 1.8, clipped": light(1.8),
    "light from the side": side_light,
    "noise, sigma 15": noise(15),
    "blurred, sigma 4 px": blur(4),
    "blurred, sigma 10 px": blur(10),
    "mirrored": lambda scene: clip(np.fliplr(scene)),
    "leaning 10 degrees": warp(10),
    "leaning 20 degrees": warp(20),
    "leaning 30 degrees": warp(30),
    "turned 90 degrees": lambda scene: clip(np.rot90(scene)),
    "lower half covered": covered,
}


# --- detection --------------------------------------------------------------------------------------------------------


def verdicts(scenes: Iterator[Pixels]) -> Counter[str]:
    return Counter(vision.check_frame(jpeg(scene), None, LbpVerifier()).verdict.value for scene in scenes)


def detection(sample: int = 100) -> dict[str, Counter[str]]:
    """Verdicts for every kind of scene: `sample` faces and, for those with one face, the astronaut too."""
    chosen = faces()[:sample]
    table: dict[str, Counter[str]] = {}
    for name, change in CHANGES.items():
        scenes = (change(portrait(face, seed)) for seed, face in enumerate(chosen))
        table[name] = verdicts(scenes)
        if name != "lower half covered":
            table[name] += verdicts(iter([change(astronaut())]))
    table["small: a fifth of the height"] = verdicts(portrait(face, i, HEIGHT // 5) for i, face in enumerate(chosen))
    table["far: an eighth of the height"] = verdicts(portrait(face, i, HEIGHT // 8) for i, face in enumerate(chosen))
    table["two faces"] = verdicts(
        paste(paste(room(i), face, FACE, 60, 120), chosen[i - 1], 150, 420, 140) for i, face in enumerate(chosen)
    )
    table["empty room"] = verdicts(room(seed) for seed in range(sample))
    table["patch that is no face"] = verdicts(portrait(p, i) for i, p in enumerate(patches()[100 : 100 + sample]))
    table["photograph without people"] = verdicts(photograph(name) for name in EMPTY)
    table["lens covered"] = verdicts(covered_lens(seed) for seed in range(sample))
    table["one colour"] = verdicts(np.full((HEIGHT, WIDTH), level, np.uint8) for level in range(0, 256, 51))
    return table


def photograph(name: str) -> Pixels:
    picture = np.asarray(getattr(pictures, name)())
    if picture.dtype != np.uint8:
        picture = clip(picture / picture.max() * 255)
    grey = np.asarray(cv2.cvtColor(picture[..., :3], cv2.COLOR_RGB2GRAY)) if picture.ndim == 3 else picture
    scale = WIDTH / max(grey.shape)
    return clip(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def covered_lens(seed: int) -> Pixels:
    """A finger on the lens: dim, light at one edge, noise."""
    random = np.random.default_rng(seed)
    x = np.linspace(0, 1, WIDTH)[None, :]
    glow = random.uniform(5, 40) + random.uniform(0, 90) * x ** random.uniform(1, 4)
    return clip(glow + random.normal(0, 4, (HEIGHT, WIDTH)))


# --- the reference picture --------------------------------------------------------------------------------------------


def reference(scene: Pixels) -> Quality:
    return vision.assess_reference(decode(jpeg(scene, 92), REFERENCE_SIDE))


def references(*only: str) -> dict[str, Quality]:
    """What is said of one real photograph and of what can be wrong with it."""
    close = astronaut()
    changes: dict[str, Change] = {
        **{name: change for name, change in CHANGES.items() if name != "lower half covered"},
        "further away": lambda scene: clip(
            np.pad(cv2.resize(scene, (WIDTH // 2, HEIGHT // 2)), ((0, HEIGHT // 2), (0, WIDTH // 2)), mode="edge")
        ),
        "two faces": lambda scene: paste(scene, faces()[1], 180, 20, 30),
        "nobody": lambda _: room(1),
        "lens covered": lambda _: covered_lens(1),
    }
    return {name: reference(change(close)) for name, change in changes.items() if not only or name in only}


# --- comparing --------------------------------------------------------------------------------------------------------

SAME_FACE: dict[str, Change] = {
    "light x 0.6": light(0.6),
    "light x 1.3": light(1.3),
    "light from the side": side_light,
    "blurred, sigma 2 px": blur(2),
    "noise, sigma 8": noise(8),
    "moved by 40 px": warp(right=40),
    "15 % smaller": warp(scale=0.85),
    "leaning 8 degrees": warp(8),
    "mirrored": lambda scene: clip(np.fliplr(scene)),
}
Distances = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Distances of frames that show the same face, by variant, and of frames that show another one.

    `not_compared` counts frames that gave no distance, `no_reference` faces that gave no template.
    """

    same: dict[str, Distances]
    others: Distances
    not_compared: int
    no_reference: int

    @property
    def all_same(self) -> Distances:
        return np.concatenate(list(self.same.values()))

    @property
    def order(self) -> float:
        """How often the same face is nearer than another one, 0.5 to 1 (area under the ROC curve)."""
        return float(np.mean(self.all_same[:, None] < self.others[None, :]))

    def missed(self, threshold: float) -> float:
        """False match: share of other faces that pass."""
        return float(np.mean(self.others <= threshold))

    def false_alarms(self, threshold: float) -> float:
        """False non-match: share of the same face's frames that do not pass."""
        return float(np.mean(self.all_same > threshold))


class Lbph:
    """OpenCV's own recogniser behind the same interface, on equalised faces that are aligned in the same way."""

    engine, engine_version, threshold = "cv2-lbph", cv2.__version__, 90.0

    def template(self, image: Image, face: vision.Face) -> bytes:
        aligned = self._aligned(image, face)
        assert aligned is not None
        return aligned.tobytes()

    def distance(self, template: bytes, image: Image, face: vision.Face) -> float | None:
        aligned = self._aligned(image, face)
        if aligned is None:
            return None
        recogniser = cv2.face.LBPHFaceRecognizer.create()
        recogniser.train([np.frombuffer(template, np.uint8).reshape(aligned.shape)], np.zeros(1, np.int32))
        return recogniser.predict(aligned)[1]

    @staticmethod
    def _aligned(image: Image, face: vision.Face) -> Pixels | None:
        eyes = vision.find_eyes(image, face)
        return None if eyes is None else clip(cv2.equalizeHist(LbpVerifier.aligned(image.pixels, eyes)))


def template_of(image: Image, verifier: FaceVerifier) -> bytes | None:
    found = vision.detect(image)
    if len(found) != 1 or vision.find_eyes(image, found[0]) is None:
        return None
    return verifier.template(image, found[0])


def probes(scenes: Sequence[Pixels]) -> list[tuple[Image, vision.Face] | None]:
    images = [decode(jpeg(scene)) for scene in scenes]
    found = [vision.detect(image) for image in images]
    return [(image, seen[0]) if len(seen) == 1 else None for image, seen in zip(images, found, strict=True)]


def compare(verifier: FaceVerifier, sample: int = 100) -> Comparison:
    """Each face against frames of itself that were changed, and against frames of all others that were not."""
    scenes = [portrait(face, seed) for seed, face in enumerate(faces()[:sample])]
    templates = [template_of(decode(jpeg(scene, 92), REFERENCE_SIDE), verifier) for scene in scenes]
    own = {name: probes([change(scene) for scene in scenes]) for name, change in SAME_FACE.items()}
    plain = probes(scenes)
    missing = 0
    same: dict[str, list[float]] = {name: [] for name in SAME_FACE}
    others: list[float] = []
    for i, template in enumerate(templates):
        if template is None:
            continue
        for name, frames in own.items():
            distance = verifier.distance(template, *frame) if (frame := frames[i]) else None
            missing += distance is None
            same[name] += [] if distance is None else [distance]
        for j, frame in enumerate(plain):
            distance = verifier.distance(template, *frame) if frame and i != j else None
            others += [] if distance is None else [distance]
    return Comparison(
        {name: np.array(values) for name, values in same.items()}, np.array(others), missing, templates.count(None)
    )


def compare_people(verifier: FaceVerifier, folder: Path) -> Comparison:
    """Every photograph as reference against every other one, each made a reference and a frame of usual size."""
    people = [
        (person.name, large, small)
        for person in sorted(path for path in folder.iterdir() if path.is_dir())
        for file in sorted(person.iterdir())
        if (large := at_size(file, 190)) is not None and (small := at_size(file, 85)) is not None
    ]
    templates = [template_of(large, verifier) for _, large, _ in people]
    frames = [(small, vision.detect(small)[0]) for _, _, small in people]
    same: list[float] = []
    others: list[float] = []
    missing = 0
    for i, j in ((i, j) for pair in combinations(range(len(people)), 2) for i, j in (pair, pair[::-1])):
        template = templates[i]
        distance = verifier.distance(template, *frames[j]) if template else None
        missing += distance is None
        if distance is not None:
            (same if people[i][0] == people[j][0] else others).append(distance)
    return Comparison({"another photograph": np.array(same)}, np.array(others), missing, templates.count(None))


def at_size(file: Path, face: int) -> Image | None:
    """The photograph as a JPEG in which its only face is about `face` px wide."""
    grey = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        return None
    whole = decode(jpeg(clip(grey)), REFERENCE_SIDE)
    found = vision.detect(whole)
    if len(found) != 1:
        return None
    scale = face / (found[0].width * grey.shape[1] / whole.width)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = decode(jpeg(clip(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=method))), 4000)
    return image if len(vision.detect(image)) == 1 else None


# --- time -------------------------------------------------------------------------------------------------------------


def times(sample: int = 100) -> tuple[dict[str, list[float]], int]:
    """Ms of processor time per frame, a 640x480 JPEG looked at with 320 px; and the bytes of a template."""
    verifier = LbpVerifier()
    whole = decode(jpeg(astronaut(), 92), REFERENCE_SIDE)
    template = verifier.template(whole, vision.detect(whole)[0])
    kinds = {
        "one face, compared": [jpeg(warp(right=i - sample // 2)(astronaut())) for i in range(sample)],
        "one face, upscaled": [jpeg(portrait(face, i)) for i, face in enumerate(faces()[:sample])],
        "nobody": [jpeg(room(seed)) for seed in range(sample)],
    }
    result: dict[str, list[float]] = {}
    for name, files in kinds.items():
        vision.check_frame(files[0], template, verifier)
        spent = []
        for file in files:
            begin = time.thread_time()
            vision.check_frame(file, template, verifier)
            spent.append((time.thread_time() - begin) * 1000)
        result[name] = spent
    return result, len(template)


# --- tables -----------------------------------------------------------------------------------------------------------


def show(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    for row in [head, ["---"] * len(head), *rows]:
        print("|", " | ".join(str(cell) for cell in row), "|")
    print()


def number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def show_comparison(result: Comparison) -> None:
    default = LbpVerifier().threshold
    print(f"Without a reference: {result.no_reference}; frames without a distance: {result.not_compared}")
    print(f"Of one frame of the same face and one of another, the same is nearer: {result.order:.1%}\n")
    rows = [
        [name, len(values), *(f"{q:.3f}" for q in np.quantile(values, [0.5, 0.95])), int((values > default).sum())]
        for name, values in [*result.same.items(), ("another face", result.others)]
    ]
    show(["frame", "n", "p50", "p95", f"over {default}"], rows)
    rows = [
        [f"{t:.2f}", f"{result.false_alarms(t):.1%}", f"{result.missed(t):.1%}"] for t in np.arange(0.16, 0.345, 0.02)
    ]
    show(["threshold", "same face, called another", "another face, not noticed"], rows)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--people", type=Path, help="a folder with one sub-folder of photographs a person")
    chosen = options.parse_args()
    vision.self_check()
    print("## Found\n")
    kinds = [verdict.value for verdict in Verdict if verdict is not Verdict.FACE_MISMATCH]
    show(["scene", *kinds], [[name, *(counts[kind] for kind in kinds)] for name, counts in detection().items()])
    print("## Reference picture\n")
    rows = [
        [
            *(name, q.faces, number(q.face_share), number(q.sharpness, 0), number(q.brightness, 0), number(q.clipped)),
            ", ".join(problem.code for problem in q.problems) or "ok",
        ]
        for name, q in references().items()
    ]
    show(["picture", "faces", "share", "sharpness", "brightness", "clipped", "result"], rows)
    print("## Compared: variants of one photograph\n")
    show_comparison(compare(LbpVerifier()))
    if folder := chosen.people:
        print("## Compared: different photographs\n")
        show_comparison(compare_people(LbpVerifier(), folder))
        print(f"With OpenCV's LBPH the same is nearer: {compare_people(Lbph(), folder).order:.1%}\n")
    print("## Time\n")
    spent, size = times()
    rows = [[name, *(f"{np.quantile(ms, q):.1f}" for q in (0.5, 0.95))] for name, ms in spent.items()]
    show(["640x480 JPEG", "p50 ms", "p95 ms"], rows)
    print(f"A template has {size} bytes.")


if __name__ == "__main__":
    main()
