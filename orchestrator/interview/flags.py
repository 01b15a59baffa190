"""Out of many frames: when something began, and when it was over. Pure, and without any image library.

    Verdict            one frame shows ...
    ok                 one face; if it could be compared, it is near enough to the reference
    face_absent        no face
    multiple_faces     more than one
    face_mismatch      one face, further from the reference than the threshold
    camera_obscured    no face, and nearly black or nothing with an outline in it

`orchestrator/vision.py` makes verdicts, `Flagger` turns them into intervals. One wrong verdict makes none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

SILENCE_MS = 60_000
SILENT_FRAMES = 3
"""What was seen is over when no still has come for so many intervals, or SILENCE_MS if that is longer."""


def silence_ms(frame_seconds: float) -> int:
    """After how long without a still nothing is known any more."""
    return max(SILENCE_MS, round(SILENT_FRAMES * frame_seconds * 1000))


class Verdict(StrEnum):
    OK = "ok"
    FACE_ABSENT = "face_absent"
    MULTIPLE_FACES = "multiple_faces"
    FACE_MISMATCH = "face_mismatch"
    CAMERA_OBSCURED = "camera_obscured"


@dataclass(frozen=True, slots=True)
class Change:
    """Something began or was over, at `at_ms`."""

    kind: Verdict
    edge: Literal["began", "ended"]
    at_ms: int


class Flagger:
    """Turns verdicts into intervals: a kind counts once `needed` of the last `window` frames have it.

    It began with the first of those frames, and is over at the first frame without it once fewer than `needed` of the
    last `window` have it. Frames until then do not count again, so intervals of one kind never overlap. After a silence
    of more than `silence_ms` nothing is known: everything ends with the last frame before it. Times are the caller's,
    in ms; a frame that is not later than the last one is left out.

    Kinds in `already` are open from the start: another process saw them begin, and died. It is as if all frames before
    the first one had them. How long the silence before the first frame was is not known, so it ends nothing.
    """

    def __init__(
        self,
        needed: int = 2,
        window: int = 3,
        silence_ms: int = 60_000,
        *,
        already: Iterable[Verdict] = (),
        last_ms: int | None = None,
    ) -> None:
        if not 1 <= needed <= window:
            raise ValueError("needed must be from 1 to window")
        self._needed = needed
        self._window = window
        self._silence_ms = silence_ms
        self._recent: deque[tuple[int, Verdict]] = deque(maxlen=window)
        self._last_ms = last_ms
        self._open = set(already) - {Verdict.OK}
        self._inherited = set(self._open)
        self._over: dict[Verdict, int] = {}

    @property
    def open(self) -> frozenset[Verdict]:
        """Kinds that began and are not over."""
        return frozenset(self._open)

    @property
    def dense(self) -> bool:
        """Whether stills should be taken more often: something was seen in the last frames, or is not over."""
        return bool(self._open) or any(verdict is not Verdict.OK for _, verdict in self._recent)

    @property
    def last_ms(self) -> int | None:
        """Time of the last frame; None before the first."""
        return self._last_ms

    def add(self, at_ms: int, verdict: Verdict) -> list[Change]:
        """What the frame changes, in order of time."""
        if self._last_ms is not None and at_ms <= self._last_ms:
            return []
        changes = self.silent(at_ms)
        self._recent.append((at_ms, verdict))
        self._last_ms = at_ms
        for kind in Verdict:
            if kind is not Verdict.OK:
                changes += self._turn(kind)
        return sorted(changes, key=lambda change: change.at_ms)

    def silent(self, now_ms: int) -> list[Change]:
        """What ends, with the last frame, because nothing was seen for more than `silence_ms` at `now_ms`."""
        if self._last_ms is None or now_ms - self._last_ms <= self._silence_ms:
            return []
        return self.close()

    def close(self, at_ms: int | None = None) -> list[Change]:
        """Ends all that is open, at `at_ms` or with the last frame, and starts afresh.

        With neither there is no time at which anything could end: nothing changes.
        """
        end = self._last_ms if at_ms is None else at_ms
        if end is None:
            return []
        changes = [self._end(kind, end) for kind in sorted(self._open)]
        self._recent.clear()
        return changes

    def _turn(self, kind: Verdict) -> list[Change]:
        over = self._over.get(kind)
        having = [at_ms for at_ms, verdict in self._recent if verdict is kind and (over is None or at_ms > over)]
        unseen = self._window - len(self._recent) if kind in self._inherited else 0
        enough = len(having) + unseen >= self._needed
        if enough and kind not in self._open:
            self._open.add(kind)
            return [Change(kind, "began", having[0])]
        if not enough and kind in self._open:
            return [self._end(kind, self._first_without(kind))]
        return []

    def _end(self, kind: Verdict, at_ms: int) -> Change:
        self._open.remove(kind)
        self._inherited.discard(kind)
        self._over[kind] = at_ms
        return Change(kind, "ended", at_ms)

    def _first_without(self, kind: Verdict) -> int:
        """The first of the frames at the end that do not have the kind."""
        first = self._recent[-1][0]
        for at_ms, verdict in reversed(self._recent):
            if verdict is kind:
                break
            first = at_ms
        return first
