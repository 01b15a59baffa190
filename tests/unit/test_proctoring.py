"""What a policy makes of what was seen: points that add up, and can be made again by another policy."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidInput, NotFound
from orchestrator.interview.proctoring import LASTING, MOMENTARY, Integrity, Policy, Seen, integrity, read_policy
from orchestrator.policies import DEFAULT, policy, versions

MINUTE = 60_000
KINDS = sorted(LASTING | MOMENTARY | {"custom:phone"})
WATCHED: dict[str, float | None] = {"camera": 1.0, "page": 0.5, "video": None}


def seen(number: int, kind: str, at: int = 0, until: int | None = None, count: int = 1) -> Seen:
    return Seen(number, kind, "page", at, until, lasts=kind in LASTING, count=count)


def judged(
    *events: Seen, by: Policy | None = None, sensitivity: str | None = None, now: int = 10 * MINUTE
) -> Integrity:
    return integrity(events, by or policy(), sensitivity, WATCHED, now)


def test_nothing_seen_is_a_full_score_and_coverage_says_what_that_is_worth() -> None:
    clean = judged()
    assert (clean.score, clean.label, clean.policy) == (100, "none", DEFAULT)
    assert clean.confidence == 0.75 and clean.coverage == WATCHED
    assert integrity((), policy(), None, {"camera": None, "page": None, "video": None}, 0).confidence == 0


def test_points_are_for_times_and_for_minutes() -> None:
    found = judged(seen(5, "paste", count=2), seen(7, "tab_hidden", 0, MINUTE // 2))
    assert [(p.id, p.points) for p in found.points] == [(5, 6), (7, 3)]
    assert found.score == 91 and found.label == "none"
    assert found.points[0].because == "3 for each of 2"
    assert found.points[1].because == "1 for each of 1 and 4 for each minute"


def test_one_kind_alone_says_only_so_much() -> None:
    found = judged(*(seen(n, "paste") for n in range(1, 12)))
    assert found.score == 80 and [p.points for p in found.points] == [3] * 6 + [2] + [0] * 4
    assert "no more than 20 for this kind" in found.points[6].because


def test_what_still_lasts_counts_until_now() -> None:
    assert judged(seen(1, "face_absent", MINUTE), now=3 * MINUTE).score == 92
    assert judged(seen(1, "face_absent", MINUTE), now=MINUTE // 2).score == 100


def test_an_accommodation_changes_the_points_and_is_named() -> None:
    found = judged(seen(1, "paste"), sensitivity="low")
    assert found.score == 98.5 and "times 0.5" in found.points[0].because
    assert judged(seen(1, "paste"), sensitivity="unheard of").score == 97


def test_another_policy_gives_other_points_for_the_same() -> None:
    strict = replace(
        policy(), version="strict-1", weights={"paste": replace(policy().weight("paste"), each=10, cap=50)}
    )
    assert judged(seen(1, "paste"), by=strict).score == 90
    assert judged(seen(1, "custom:phone"), by=strict).score == 99


@given(
    st.lists(
        st.tuples(st.sampled_from(KINDS), st.integers(0, 20), st.integers(0, 20), st.integers(1, 50)), max_size=60
    ),
    st.sampled_from([None, "low", "high"]),
)
def test_the_explanation_adds_up(given_events: list[tuple[str, int, int, int]], sensitivity: str | None) -> None:
    events = tuple(
        seen(n, kind, at * MINUTE, (at + length) * MINUTE, count)
        for n, (kind, at, length, count) in enumerate(given_events, 1)
    )
    found = judged(*events, sensitivity=sensitivity)
    assert found.score == pytest.approx(max(0, 100 - sum(p.points for p in found.points)), abs=0.011)
    assert [p.id for p in found.points] == [e.id for e in events]
    for kind in KINDS:
        assert sum(p.points for p in found.points if p.kind == kind) <= policy().weight(kind).cap + 0.011
    assert found == judged(*events, sensitivity=sensitivity)


def test_the_shipped_policy_knows_the_whole_catalogue() -> None:
    assert versions() == [DEFAULT]
    assert policy().weights.keys() == LASTING | MOMENTARY
    assert all(weight.cap <= 30 for weight in policy().weights.values()), "no kind alone decides"
    with pytest.raises(NotFound):
        policy("standard-0")


def text(**changes: Any) -> str:
    content = {"version": "x", "events": {}, "other": {}, "labels": [[0, "high"]], "sensitivity": {}} | changes
    return json.dumps({name: value for name, value in content.items() if value is not None})


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "[]",
        "null",
        text(version=None),
        text(events=[]),
        text(events={"smile": {}}),
        text(events={"paste": {"points": 3}}),
        text(labels=[[0, "high"], [90, "none"]]),
        text(sensitivity={"low": "half"}),
    ],
)
def test_what_is_no_policy_is_refused(bad: str) -> None:
    with pytest.raises(InvalidInput):
        read_policy(bad)
    assert read_policy(text(events={"custom:phone": {"each": 1, "cap": 2}})).weight("custom:phone").each == 1
