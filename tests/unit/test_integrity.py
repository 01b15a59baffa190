"""What a policy makes of what was seen: points that add up, and can be made again by another policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import policies
from orchestrator.errors import InvalidInput, NotFound
from orchestrator.interview import commands as c
from orchestrator.interview.decide import room_event
from orchestrator.interview.entry import Entry
from orchestrator.interview.integrity import (
    Coverage,
    Integrity,
    Policy,
    Timeline,
    Weight,
    judged,
    read_policy,
    score_of,
    timeline,
)
from orchestrator.interview.sightings import CAMERA, LASTING, MOMENTARY, WITHDRAWN, Seen
from orchestrator.interview.view import session_view
from orchestrator.policies import DEFAULT, FOLDER, policy, policy_of, versions
from tests.unit.test_proctoring import EXEMPT, LIVE, Proctored, ms, seen

MINUTE = 60_000
KINDS = sorted(LASTING | MOMENTARY | {"custom:phone"})
WATCHED = Coverage(1.0, 0.5, None)


def event(number: int, kind: str, lasted: int = 0, count: int = 1, **more: Any) -> Seen:
    return Seen(number, kind, "page", ms(0), ms(0) + lasted, lasted, kind in LASTING, count, **more)


def judge(*events: Seen, by: Policy | None = None, sensitivity: str | None = None) -> Integrity:
    state = Proctored(accommodations=c.Accommodations(sensitivity=sensitivity)).state
    return judged(Timeline(state, ms(600), events, WATCHED), by or policy())


# Points


def test_nothing_seen_is_a_full_score_and_confidence_says_what_that_is_worth() -> None:
    assert judge() == Integrity(100, "none", DEFAULT, (), 0.75)
    assert Coverage(None, None, None).confidence == 0


def test_points_are_for_times_and_for_minutes() -> None:
    found = judge(event(5, "paste", count=2), event(7, "tab_hidden", MINUTE // 2))
    assert [(p.id, p.points, p.severity) for p in found.points] == [(5, 6, "medium"), (7, 3, "medium")]
    assert found.score == 91 and found.label == "none"
    assert found.points[0].because == "3 for each of 2"
    assert found.points[1].because == "1 for it and 4 for each minute of 0.50"


def test_one_kind_alone_says_only_so_much() -> None:
    found = judge(*(event(n, "paste") for n in range(1, 12)))
    assert found.score == 80 and [p.points for p in found.points] == [3] * 6 + [2] + [0] * 4
    assert "no more than 20 for this kind" in found.points[6].because
    assert "no more" not in found.points[5].because


def test_what_a_policy_gives_nothing_for_is_told_all_the_same() -> None:
    (points,) = judge(event(1, "network_lost", MINUTE)).points
    assert (points.points, points.severity, points.because) == (0, "info", "this policy gives no points for it")


def test_what_was_over_before_the_interview_began_gives_nothing() -> None:
    found = judge(event(1, "paste", counts=False), event(2, "paste"))
    assert [p.points for p in found.points] == [0, 3] and found.score == 97


def test_an_accommodation_changes_the_points_and_is_named() -> None:
    found = judge(event(1, "paste"), sensitivity="low")
    assert found.score == 98.5 and "times 0.5" in found.points[0].because
    assert judge(event(1, "paste"), sensitivity="high").score == 95.5
    assert judge(event(1, "paste", count=100), sensitivity="high").score == 80, "the cap is the same"
    assert judge(event(1, "paste"), sensitivity="unheard of").score == 97


def test_another_policy_gives_other_points_for_the_same() -> None:
    weights = {"paste": Weight("high", each=10, cap=50)}
    strict = replace(policy(), version="strict-1", weights=weights, labels=((95.0, "fine"), (80.0, "look")))
    found = judge(event(1, "paste"), by=strict)
    assert (found.score, found.label, found.policy) == (90, "look", "strict-1")
    assert judge(event(1, "custom:phone"), by=strict).score == 99
    assert judge(event(1, "paste", count=9), by=strict).label == "look", "below the last label it is the last one"


@pytest.mark.parametrize(
    ("score", "label"), [(100, "none"), (90, "none"), (89.99, "low"), (70, "low"), (40, "medium"), (0, "high")]
)
def test_a_label_holds_from_its_score_on(score: float, label: str) -> None:
    assert policy().label(score) == label


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 20 * MINUTE), st.integers(1, 50)), max_size=60),
    st.sampled_from([None, "low", "high"]),
)
def test_the_explanation_adds_up(told: list[tuple[str, int, int]], sensitivity: str | None) -> None:
    events = tuple(event(n, *one) for n, one in enumerate(told, 1))
    found = judge(*events, sensitivity=sensitivity)
    assert found.score == round(max(0, 100 - sum(p.points for p in found.points)), 2)
    assert [p.id for p in found.points] == [e.id for e in events]
    assert all(p.points >= 0 and p.because for p in found.points)
    for kind in KINDS:
        assert round(sum(p.points for p in found.points if p.kind == kind), 2) <= policy().weight(kind).cap
    assert found == judge(*events, sensitivity=sensitivity)


# A whole interview


def eventful(**changes: Any) -> Proctored:
    """Ten minutes in which eleven kinds were seen, all over by the end."""
    call = Proctored(room=LIVE, questions=2, text_question_timer=900, coding_question_timer=900, **changes).started()
    call.join(0)
    call.sees(20, *(seen("paste", 15 + n, detail={"size": n}) for n in range(5)))
    call.sees(30, *(seen("copy", 25) for _ in range(10)), seen("custom:phone", 29, source="hook"))
    call.stills(60, [15, 30, 45, 60], seen("face_absent", 30, "began", "frames"))
    call.sees(70, seen("tab_hidden", 70, "began"), seen("focus_lost", 70, "began"))
    call.sees(115, seen("tab_hidden", 115, "ended"))
    call.do(c.Pause("a glass of water"), 120)
    call.stills(125, [75, 90, 105, 120])
    call.sees(150, seen("paste", 150, source="staff", count=2))
    call.do(c.Resume(), 180)
    call.stills(195, [195], seen("face_absent", 180, "ended", "frames"))
    call.sees(230, seen("focus_lost", 230, "ended"), seen("noise", 200, duration_ms=30_000))
    call.do(c.Answer(0, "a"), 240, c.Caller("candidate", "candidate"))
    call.join(250, "PA_2")
    call.leave(251, "duplicate_identity")
    call.leave(300, connection="PA_2")
    call.join(330, "PA_3")
    edges = [seen("multiple_faces", 390, "began", "frames"), seen("multiple_faces", 410, "ended", "frames")]
    call.stills(420, range(210, 421, 15), *edges)
    call.stills(535, range(435, 531, 15))
    call.sees(540, seen("fullscreen_left", 540, "began"))
    call.do(c.Dispute(5, "a mistake"), 550, c.Caller("candidate", "candidate"))
    call.do(c.Answer(1, "b"), 600, c.Caller("candidate", "candidate"))
    call.stills(700, range(540, 601, 15), late=5)
    return call


POINTS = {
    "paste": 20.0,  # 7 x 3
    "copy": 5.0,  # 10 x 1
    "custom:phone": 1.0,
    "face_absent": 6.0,  # 90 s at 4 a minute
    "tab_hidden": 4.0,  # 1 + 45 s at 4
    "focus_lost": 3.33,  # 100 s at 2
    "noise": 0.25,  # 30 s at 0.5
    "second_device": 2.0,
    "network_lost": 0.0,
    "multiple_faces": 6.0,  # 4 + 20 s at 6
    "fullscreen_left": 2.0,  # 1 + 60 s at 1
}


def test_an_interview_adds_up_to_its_score() -> None:
    line = eventful().line(800)
    found = judged(line, policy())
    by_kind: dict[str, float] = {}
    for points in found.points:
        by_kind[points.kind] = round(by_kind.get(points.kind, 0) + points.points, 2)
    assert by_kind == POINTS
    assert found.score == round(100 - sum(POINTS.values()), 2) == 50.42
    assert found.label == "medium" and found.policy == "standard-1"
    assert [p.id for p in found.points] == [one.id for one in line.seen] == sorted(one.id for one in line.seen)
    assert [one.points for one in found.points if one.kind == "paste"] == [15, 5]
    assert line.coverage.camera == 1 and line.coverage.page == 1
    assert line.coverage.video is not None and 0.9 < line.coverage.video < 0.95, "30 s of 540 without"


def test_the_same_journal_gives_the_same_figures_wherever_it_is_read() -> None:
    call = eventful()
    copies = [Entry(**json.loads(json.dumps(asdict(entry)))) for entry in call.entries]
    again = timeline(copies, ms(800))
    assert again == call.line(800)
    assert judged(again, policy()) == judged(call.line(800), policy())
    assert judged(call.line(9_000_000), policy()) == judged(again, policy()), "however late"


@pytest.mark.parametrize("sensitivity", [None, "low", "standard", "high"])
def test_the_score_in_the_view_is_the_explained_one(sensitivity: str | None) -> None:
    call = eventful(accommodations=c.Accommodations(sensitivity=sensitivity))
    found = judged(call.line(800), policy())
    view = session_view(call.state, ms(800), "staff", policy())["proctoring"]["integrity"]
    assert view == {"score": found.score, "label": found.label, "policy": found.policy}
    if sensitivity == "low":
        assert found.score == round(100 - 10.5 - 5 - 0.5 - 3 - 2 - 1.67 - 0.12 - 1 - 3 - 1, 2)


def test_another_policy_judges_the_same_interview_otherwise() -> None:
    lenient = replace(policy(), version="lenient-1", weights={}, other=Weight("low", each=0.5, cap=1))
    call = eventful()
    found = judged(call.line(800), lenient)
    assert (found.score, found.policy) == (round(100 - 1 - 1 - 9 * 0.5, 2), "lenient-1")
    assert score_of(call.state, lenient) == found.score


def test_what_still_lasts_counts_until_now_in_the_timeline() -> None:
    call = Proctored().started()
    call.sees(60, seen("tab_hidden", 60, "began"))
    assert [judged(call.line(at), policy()).score for at in (60, 90, 120)] == [99, 97, 95]
    assert score_of(call.state, policy()) == 99


def test_what_stills_show_counts_for_as_long_as_they_stand_for() -> None:
    call = Proctored().started()
    call.stills(60, [45, 60], seen("multiple_faces", 60, "began", "frames"))
    scores = [judged(call.line(at), policy()).score for at in (60, 70, 76.5, 120)]
    assert scores == [96, 95, 94.35, 94.35]
    call.do(c.End(), 120)
    assert score_of(call.state, policy()) == judged(call.line(900), policy()).score == 94.35


# Coverage


def watched(every: int, until: int = 600, **changes: Any) -> Proctored:
    call = Proctored(**changes).started()
    if every:
        call.stills(until, range(every, until + 1, every))
    return call


UNCOMPARED = "the face was not compared, since there was no reference face"
REFERENCE = c.NoteReference("ab" * 32, "lbp", "1")


def test_stills_all_the_time_are_full_coverage() -> None:
    cover = watched(15).line(600).coverage
    assert cover == Coverage(1.0, 1.0, None, (UNCOMPARED,)) and cover.confidence == 1
    call = Proctored()
    call.do(REFERENCE, 0)
    call.started().stills(600, range(15, 601, 15))
    assert call.line(600).coverage == Coverage(1.0, 1.0, None, ())


def test_it_says_whether_the_face_was_compared() -> None:
    call = Proctored().started()
    assert UNCOMPARED not in call.line(10).coverage.because, "no still, no face"
    call.stills(15, [15])
    assert UNCOMPARED in call.line(20).coverage.because
    call.do(REFERENCE, 20)
    assert UNCOMPARED in call.line(25).coverage.because, "no still has come since"
    call.stills(30, [30])
    assert call.state.proctoring.compared and UNCOMPARED not in call.line(35).coverage.because
    call.do(c.NoteErased("reference", WITHDRAWN), 40)
    call.stills(45, [45])
    assert UNCOMPARED not in call.line(50).coverage.because, "there was one"


def test_every_second_still_is_half_of_the_time() -> None:
    call = watched(30)
    call.do(c.NoteFrames("b2", (), dropped=20, unreadable=2), 602)
    cover = call.line(600).coverage
    assert cover.camera == 0.55 and cover.page == 1
    assert "stills that were looked at stand for 55% of the time" in cover.because
    assert "20 stills were not looked at, since there were too many to look at" in cover.because
    assert "2 stills could not be read" in cover.because
    assert judged(call.line(600), policy()).score == 100


def test_no_stills_are_no_coverage_and_it_says_so() -> None:
    cover = watched(0).line(600).coverage
    assert cover.camera == 0 and cover.page == 0
    assert cover.because == ("no still of the camera was looked at", "the page gave signs for 0% of the time")


def test_before_the_start_nothing_is_covered() -> None:
    call = Proctored()
    call.stills(30, [15, 30])
    assert call.line(60).coverage.camera == 0
    call.started(60)
    assert call.line(120).coverage.camera == 0, "stills from before stand for nothing"
    call.stills(120, [75, 90, 105, 120])
    assert call.line(120).coverage.camera == 1


def test_stills_that_stop_stand_for_a_little_more_than_their_interval() -> None:
    call = Proctored().started()
    call.stills(60, [15, 30, 45, 60])
    assert call.line(76.5).coverage.camera == 1
    assert call.line(153).coverage.camera == 0.5


def test_the_interval_of_stills_is_the_sessions() -> None:
    call = Proctored({"policy": None, "frame_seconds": 30.0}).started()
    call.stills(600, range(30, 601, 30))
    assert call.line(600).coverage.camera == 1


def test_pauses_need_no_stills() -> None:
    call = Proctored().started()
    call.stills(60, [15, 30, 45, 60])
    call.do(c.Pause(), 60)
    call.do(c.Resume(), 360)
    call.stills(420, [375, 390, 405, 420])
    assert call.line(420).coverage.camera == 1
    call.do(c.End(), 420)
    assert call.line(99_999).coverage.camera == 1, "nor does the time after the end"


def test_the_page_gives_signs_by_its_events() -> None:
    call = Proctored().started()
    call.sees(60, seen("copy", 60), seen("copy", 60, source="hook"))
    call.sees(180, seen("copy", 180, source="hook"))
    assert call.line(240).coverage.page == 0.5
    assert "the page gave signs for 50% of the time" in call.line(240).coverage.because


def test_late_stills_are_signs_of_the_page_too() -> None:
    call = Proctored().started()
    call.sees(590, seen("copy", 590))
    call.stills(600, range(15, 601, 15), late=38)
    cover = call.line(600).coverage
    assert (cover.camera, cover.page) == (1, 1)


def test_stills_from_before_a_pause_that_are_noted_after_it_stand_for_their_time() -> None:
    call = Proctored().started()
    call.do(c.Pause(), 60)
    call.do(c.Resume(), 70)
    call.stills(76, [15, 30, 45, 60, 75])
    assert call.line(76).coverage.camera == 1


def test_the_exempt_are_watched_less_and_not_judged_worse() -> None:
    call = Proctored(accommodations=EXEMPT).started()
    for at in range(60, 601, 60):
        call.sees(at, seen("noise", at))
    cover = call.line(600).coverage
    assert (cover.camera, cover.page, cover.confidence) == (0, 1, 0.5)
    assert cover.because == ("the candidate is exempt from the camera",)
    assert judged(call.line(600), policy()).score == 100


@pytest.mark.parametrize("kind", sorted(LASTING | MOMENTARY))
def test_the_exempt_get_no_points_for_what_has_to_do_with_the_camera(kind: str) -> None:
    def seen_by_everybody(**changes: Any) -> Proctored:
        call = Proctored(**changes).started()
        for source in ("page", "staff", "hook"):
            call.sees(60, seen(kind, 0, duration_ms=60_000 if kind in LASTING else None, source=source))
        return call

    exempt, other = seen_by_everybody(accommodations=EXEMPT), seen_by_everybody()
    found, judged_else = judged(exempt.line(60), policy()), judged(other.line(60), policy())
    assert len(found.points) == 3 and found.score == score_of(exempt.state, policy())
    if kind in CAMERA:
        assert found.score == 100 > judged_else.score
        assert {(p.points, p.because) for p in found.points} == {(0, "the candidate is exempt from the camera")}
    else:
        assert found.points == judged_else.points and found.score == judged_else.score


def test_without_livekit_video_was_not_meant_to_be_and_fallback_lowers_only_the_coverage() -> None:
    assert watched(15).line(600).coverage.video is None
    call = watched(0, room=LIVE)
    call.join(0)
    call.do(c.NoteRoom("fallback", None, "the server is away"), 300)
    call.stills(600, range(15, 601, 15))
    cover = call.line(600).coverage
    assert (cover.camera, cover.video, cover.confidence) == (1, 0.5, round(2.5 / 3, 4))
    assert "there was video for 50% of the time" in cover.because
    assert judged(call.line(600), policy()).score == 100
    call.do(c.NoteRoom("live", "wss://livekit.example"), 600)
    assert call.line(1200).coverage.video == 0.75, "the candidate is still there"


def test_there_is_no_video_while_the_candidate_is_not_in_the_room() -> None:
    call = watched(0, room=room_event("deferred", None, None))
    assert call.line(100).coverage.video == 0
    call.do(c.NoteRoom("live", "wss://livekit.example"), 100)
    call.join(150)
    call.join(150, "channel-1", "channel")
    call.leave(250, "client_initiated")
    assert call.line(400).coverage.video == 0.25


# Policies


@pytest.fixture(autouse=True)
def _policies_are_read_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(FOLDER, raising=False)
    forget_policies()
    yield
    forget_policies()


def forget_policies() -> None:
    policies.policy.cache_clear()
    policies._policy_or_none.cache_clear()


def text(**changes: Any) -> str:
    content = {"version": "x", "events": {}, "other": {}, "labels": [[0, "high"]], "sensitivity": {}} | changes
    return json.dumps({name: value for name, value in content.items() if value is not None})


def test_the_shipped_policy_knows_the_whole_catalogue() -> None:
    assert versions() == [DEFAULT]
    assert policy().weights.keys() == LASTING | MOMENTARY
    assert all(weight.cap <= 30 for weight in policy().weights.values()), "no kind alone decides"
    assert policy().labels[0][0] < 100 and policy().labels[-1][0] == 0
    with pytest.raises(NotFound, match="standard-1"):
        policy("standard-0")


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
        text(events={"paste": 3}),
        text(events={"paste": {"each": -1}}),
        text(events={"paste": {"each": 100.5}}),
        text(events={"paste": {"minute": float("nan")}}),
        text(events={"paste": {"cap": float("inf")}}),
        text(events={"paste": {"each": None}}),
        text(events={"paste": {"each": "many"}}),
        text(other={"cap": -0.01}),
        text(other=None),
        text(labels=[]),
        text(labels=[[0, "high"], [90, "none"]]),
        text(labels=[["high", 0]]),
        text(labels=[[0]]),
        text(sensitivity={"low": "half"}),
        text(sensitivity={"low": -0.5}),
        text(sensitivity={"low": float("nan")}),
    ],
)
def test_what_is_no_policy_is_refused(bad: str) -> None:
    with pytest.raises(InvalidInput):
        read_policy(bad)


@pytest.mark.parametrize(
    "bad",
    [
        text(events={"paste": {"each": "3", "cap": 20}}),
        text(events={"paste": {"each": 10**400}}),
        text(events={"paste": {"severity": "purple"}}),
        text(sensitivity={"low": float("inf")}),
        text(sensitivity={"low": 10.01}),
        text(events={"paste": {"each": True}}),
        text(other={"cap": "20"}),
        text(events={"paste": {"severity": ["low"]}}),
        text(labels=[[float("nan"), "none"]]),
        "[" * 200_000,
    ],
    ids=[
        "digits",
        "beyond_floats",
        "severity",
        "infinite_factor",
        "great_factor",
        "boolean",
        "other",
        "list",
        "label_nan",
        "depth",
    ],
)
def test_what_nobody_can_count_with_is_refused(bad: str) -> None:
    with pytest.raises(InvalidInput):
        read_policy(bad)


@pytest.mark.parametrize(
    "bad",
    [
        text(labels=[["0", "high"]]),
        text(labels=[[True, "none"], [0, "high"]]),
        text(sensitivity={"low": "0.5"}),
        text(sensitivity={"low": True}),
    ],
    ids=["label_digits", "label_boolean", "factor_digits", "factor_boolean"],
)
def test_scores_and_factors_are_numbers_too(bad: str) -> None:
    with pytest.raises(InvalidInput):
        read_policy(bad)


def test_a_policy_may_weigh_custom_kinds() -> None:
    read = read_policy(text(events={"custom:phone": {"each": 1, "cap": 2}}))
    assert read.weight("custom:phone").each == 1 and read.weight("custom:other") == Weight()


def test_a_folder_adds_policies_and_replaces_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "strict-1.json").write_text(text(version="strict-1", events={"paste": {"each": 9, "cap": 9}}))
    (tmp_path / "standard-1.json").write_text(text(version="standard-1"))
    (tmp_path / "readme.txt").write_text("not a policy")
    monkeypatch.setenv(FOLDER, str(tmp_path))
    assert versions() == ["standard-1", "strict-1"]
    assert policy("strict-1").weight("paste").each == 9
    assert policy("standard-1").weight("paste").each == 3


def test_a_policy_has_the_version_that_its_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "strict-2.json").write_text(text(version="strict-1"))
    monkeypatch.setenv(FOLDER, str(tmp_path))
    with pytest.raises(InvalidInput, match=r"strict-2\.json"):
        policy("strict-2")


def test_a_session_is_judged_by_its_own_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strict = Proctored({"policy": "strict-1"}).started()
    old = Proctored(None).started()
    assert policy_of(strict.state) is None and policy_of(old.state) == policy()
    (tmp_path / "strict-1.json").write_text(text(version="strict-1"))
    (tmp_path / "broken-1.json").write_text("{")
    monkeypatch.setenv(FOLDER, str(tmp_path))
    assert policy_of(strict.state) is None, "what a process has once looked for it knows"
    forget_policies()
    found = policy_of(strict.state)
    assert found is not None and found.version == "strict-1"
    assert policy_of(Proctored({"policy": "broken-1"}).state) is None


@pytest.mark.parametrize("trouble", ["missing", "folder", "bytes"])
def test_trouble_in_the_folder_is_no_trouble_for_what_ships(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "policies"
    if trouble != "missing":
        folder.mkdir()
    if trouble == "folder":
        (folder / "x-1.json").mkdir()
    if trouble == "bytes":
        (folder / "x-1.json").write_bytes(b"\xff\xfe")
    monkeypatch.setenv(FOLDER, str(folder))
    assert policy_of(Proctored().state) is not None
