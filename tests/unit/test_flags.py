"""Flags out of many frames."""

from __future__ import annotations

import random
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.interview.flags import Change, Flagger, Verdict

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


def test_frames_of_one_interval_do_not_make_the_next() -> None:
    assert run(Flagger(), "aoaoaoaa") == [
        *(Change(A, "began", 0), Change(A, "ended", 3000)),
        *(Change(A, "began", 4000),),
    ]


# --- silence ----------------------------------------------------------------------------------------------------------


def test_silence_ends_everything_with_the_last_frame() -> None:
    flagger = Flagger(silence_ms=10_000)
    run(flagger, "aaa")
    assert flagger.silent(12_000) == [] and flagger.open == {A}
    assert flagger.silent(12_001) == [Change(A, "ended", 2000)]
    assert flagger.silent(99_000) == [] and flagger.open == frozenset() and not flagger.dense


def test_after_silence_was_told_old_frames_count_no_more() -> None:
    flagger = Flagger(silence_ms=10_000)
    run(flagger, "aaa")
    flagger.silent(12_001)
    assert flagger.add(1500, A) == flagger.add(2000, A) == []
    assert flagger.add(2500, A) == []
    assert flagger.add(2600, A) == [Change(A, "began", 2500)]


def test_the_time_of_the_last_frame_is_known() -> None:
    flagger = Flagger(already=[A])
    assert flagger.last_ms is None
    flagger.add(1000, A)
    flagger.add(500, A)
    assert flagger.last_ms == 1000
    flagger.close(3000)
    assert flagger.last_ms == 1000


# --- what another process saw begin -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needed", "window", "letters", "changes"),
    [
        (2, 3, "o", []),
        (2, 3, "oo", [(A, "ended", 0)]),
        (2, 3, "aoo", [(A, "ended", 1000)]),
        (2, 3, "oaa", []),
        (2, 3, "oao", [(A, "ended", 2000)]),
        (2, 3, "ooaa", [(A, "ended", 0), (A, "began", 2000)]),
        (2, 3, "ooaoa", [(A, "ended", 0), (A, "began", 2000)]),
        (2, 3, "mm", [(A, "ended", 0), (M, "began", 0)]),
        (1, 1, "o", [(A, "ended", 0)]),
        (3, 3, "o", [(A, "ended", 0)]),
        (1, 3, "oo", []),
        (1, 3, "ooo", [(A, "ended", 0)]),
        (3, 5, "ooaa", []),
        (3, 5, "oooaaa", [(A, "ended", 0), (A, "began", 3000)]),
    ],
)
def test_what_began_before_goes_on_until_enough_frames_say_otherwise(
    needed: int, window: int, letters: str, changes: list[tuple[Verdict, str, int]]
) -> None:
    got = run(Flagger(needed, window, already=[A]), letters)
    assert sorted((c.at_ms, c.kind, c.edge) for c in got) == sorted((at, kind, edge) for kind, edge, at in changes)


def test_several_kinds_can_have_begun_before() -> None:
    flagger = Flagger(already=[M, A, Verdict.OK])
    assert flagger.open == {A, M} and flagger.dense
    assert flagger.add(0, A) == []
    assert flagger.add(1000, A) == [Change(M, "ended", 0)]
    assert flagger.add(2000, A) == [] and flagger.open == {A}


def test_before_the_first_frame_no_silence_is_known() -> None:
    flagger = Flagger(silence_ms=10_000, already=[A])
    assert flagger.silent(10**12) == flagger.close() == [] and flagger.open == {A}
    assert flagger.add(10**12, A) == []
    assert flagger.silent(10**12 + 10_001) == [Change(A, "ended", 10**12)]
    assert Flagger(already=[A]).close(700) == [Change(A, "ended", 700)]


# --- what always holds ------------------------------------------------------------------------------------------------

verdicts = st.sampled_from("ooaaamxc").map(LETTERS.__getitem__)
gaps = st.integers(-500, 3000) | st.integers(3001, 20_000)
steps = st.lists(st.tuples(gaps, verdicts | st.sampled_from(["silent", "close"])), max_size=60)
sizes = st.integers(1, 6).flatmap(lambda window: st.tuples(st.integers(1, window), st.just(window)))


@given(steps, sizes, st.frozensets(verdicts))
def test_intervals_of_one_kind_never_overlap(
    steps: list[tuple[int, Verdict | str]], size: tuple[int, int], already: frozenset[Verdict]
) -> None:
    flagger, now, changes = Flagger(*size, silence_ms=10_000, already=already), 1000, []
    for gap, what in steps:
        now += gap
        if isinstance(what, Verdict):
            changes += flagger.add(now, what)
        elif what == "silent":
            changes += flagger.silent(now)
        else:
            changes += flagger.close(max(now, flagger.last_ms or now))
    still_open = flagger.open
    for kind in Verdict:
        own = [change for change in changes if change.kind is kind]
        edges = ["began"] * (kind in already and kind is not Verdict.OK) + [change.edge for change in own]
        assert edges == (["began", "ended"] * len(edges))[: len(edges)]
        assert (kind in still_open) == (edges[-1:] == ["began"])
        for first, second in pairwise(own):
            later = second.at_ms > first.at_ms or (second.edge == "ended" and second.at_ms == first.at_ms)
            assert later, "an interval begins after the one before it, and does not end before it begins"


def test_two_of_three_frames_last_longer_than_one() -> None:
    dice = random.Random(3)
    for _ in range(200):
        flagger = Flagger()
        letters = "".join(dice.choice("ooaamxc") for _ in range(40))
        changes = [*run(flagger, letters), *flagger.close()]
        for kind in Verdict:
            own = [change for change in changes if change.kind is kind]
            assert [c.edge for c in own] == ["began", "ended"] * (len(own) // 2)
            assert all(begin.at_ms < end.at_ms for begin, end in zip(own[::2], own[1::2], strict=True))


def test_flags_load_no_image_library() -> None:
    code = "import sys, orchestrator.interview.flags; print(*({'cv2', 'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
