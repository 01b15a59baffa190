"""Which stills are kept and why, which go, and how soon the next one is wanted."""

from __future__ import annotations

import pytest

from orchestrator.interview.evidence import MAX_KEPT, MAX_PENDING, next_seconds, reason_to_keep, skipped, thinned
from orchestrator.interview.flags import SILENCE_MS, silence_ms


@pytest.mark.parametrize(
    ("verdict", "first", "after", "reason"),
    [
        ("ok", True, False, "the first one"),
        ("ok", False, False, None),
        ("ok", False, True, "the next one after something was seen"),
        ("face_absent", False, True, "it shows face_absent"),
        ("unreadable", True, True, None),
    ],
)
def test_why_a_still_is_kept(verdict: str, first: bool, after: bool, reason: str | None) -> None:
    assert reason_to_keep(verdict, first=first, after_trouble=after) == reason


def test_beyond_the_cap_every_second_one_goes_but_never_the_first_or_the_last() -> None:
    kept = [f"s{n}" for n in range(MAX_KEPT + 1)]
    assert thinned(kept[:-1]) == []
    going = thinned(kept)
    assert going == kept[1:-1:2] and not {kept[0], kept[-1]} & set(going)


def test_of_too_many_that_wait_every_second_one_is_skipped() -> None:
    waiting = list(range(MAX_PENDING))
    assert list(skipped(waiting[:-1])) == [] and list(skipped(waiting)) == waiting[1::2]


def test_stills_are_wanted_more_often_when_something_was_seen() -> None:
    assert (next_seconds(15, dense=False), next_seconds(15, dense=True)) == (15, 5)


def test_silence_is_a_minute_or_three_intervals() -> None:
    assert (silence_ms(15), silence_ms(60)) == (SILENCE_MS, 180_000)
