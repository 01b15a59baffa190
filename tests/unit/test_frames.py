"""Frames of the live channel: what each event of a journal is told as, to whom, and what is never told."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import OrchestratorError
from orchestrator.interview import commands as c
from orchestrator.interview.decide import activation, decide, plan, room_event
from orchestrator.interview.entry import Entry, new_entry
from orchestrator.interview.fold import fold
from orchestrator.interview.frames import Frame, FrameMaker
from orchestrator.interview.presence import EVENT_TYPES, NOT_THE_CANDIDATES_DOING
from orchestrator.interview.sightings import Sighting
from orchestrator.interview.snapshot import Draft
from orchestrator.interview.state import State
from orchestrator.interview.view import current_question, livekit_view, session_view
from orchestrator.policies import policy
from tests.unit import test_presence
from tests.unit.test_imports import ROOT
from tests.unit.test_interview_properties import command, texts
from tests.unit.test_interview_rules import draft
from tests.unit.test_presence import CAP, LIVEKIT, Call, lives, play
from tests.unit.world import CANDIDATE, STAFF, T0, first_entry

BOSS = c.Caller("key:boss", "staff")
SYSTEM = c.SYSTEM
ROLES: list[c.Role] = ["staff", "candidate"]
HEAD = {"type", "server_time", "seq", "at"}
Told = dict[int, Frame]
"""Frames by the seq of their events."""


class Story(Call):
    """An interview whose journal is kept, with the state after each entry."""

    by = "staff"

    def __init__(self, **changes: Any) -> None:
        first = first_entry(**changes)
        self.state = fold(None, first)
        self.journal: list[tuple[Entry, State]] = [(first, self.state)]

    def do(self, command: c.Command, at: float, caller: c.Caller = STAFF, draft: Draft | None = None) -> list[str]:
        self.by = caller.principal
        return super().do(command, at, caller, draft)

    def write(self, events: list[dict[str, Any]], now: int) -> list[str]:
        if events:
            entry = new_entry("s1", self.state.next_seq, self.state.epoch, now, events, by=self.by)
            self.state = fold(self.state, entry)
            self.journal.append((entry, self.state))
        return [e["type"] for e in events]

    def started(self, at: float = 0) -> Story:
        super().started(at)
        return self

    def told(self, role: c.Role, after: int = 0) -> list[Frame]:
        """Everything, as it is told to somebody who was there."""
        maker = FrameMaker(role, CAP, policy())
        return [f for entry, state in self.journal for f in maker.frames(entry, state, entry.at, after)]

    def last(self, role: c.Role = "candidate") -> list[Frame]:
        """The frames of the last entry."""
        return self.told(role, self.journal[-1][0].seq - 1)


def types(frames: list[Frame]) -> list[str]:
    return [frame["type"] for frame in frames]


def seen(kind: str, source: Any, at: float, **more: Any) -> Sighting:
    return Sighting(kind, source, T0 + round(at * 1000), **more)


def everything() -> Story:
    """An interview in which whatever can happen does."""
    story = Story(questions=6, metadata={"team": "hidden-metadata"}, text_question_timer=600, coding_question_timer=600)
    story.do(c.Update({"phone": "555"}), 1, BOSS)
    story.do(c.NewLink(), 2, BOSS)
    story.by = "livekit"
    story.write([room_event("live", "ws://livekit.test", None, record=True)], T0 + 3_000)
    story.do(c.NoteReference("hidden-sha", "hidden-engine", "1"), 4, CANDIDATE)
    story.join(5, "hidden-fe:1", "channel")
    story.join(6, "hidden-PA_1")
    story.do(c.NoteSightings((seen("tab_hidden", "page", 7, phase="began", detail={"text": "before"}),)), 7, CANDIDATE)
    taken = activation(story.state, c.Activate("hidden-actor", "hidden-node", "start"))
    story.by = CANDIDATE.principal
    story.write([taken, *decide(story.state, c.Start(), CANDIDATE, T0 + 10_000)], T0 + 10_000)
    story.do(c.NoteRecording("active", "hidden-egress"), 11, LIVEKIT)
    page = (seen("tab_hidden", "page", 12, phase="ended"), seen("paste", "page", 12, detail={"size": 9}, count=2))
    story.do(c.NoteSightings((), (("hidden-key", "hash", page),)), 13, CANDIDATE)
    story.do(c.NoteSightings((seen("face_absent", "frames", 13, phase="began"),)), 14, SYSTEM)
    story.do(c.Answer(0, "first"), 20, CANDIDATE)
    story.do(c.Pause("hidden-pause"), 21, BOSS)
    story.do(c.Resume(), 25, BOSS)
    story.do(c.Extend(30, "hidden-extension"), 26, BOSS)
    story.leave(30, connection="hidden-fe:1", source="channel")
    story.leave(31, connection="hidden-PA_1")
    story.join(40, "hidden-fe:2", "channel")
    story.leave(41, "duplicate_identity", connection="hidden-fe:2", source="channel")
    story.join(42, "hidden-PA_2")
    story.leave(43, "client_initiated", connection="hidden-PA_2")
    story.leave(44, connection="hidden-fe:3", source="channel", credit_ms=0)
    story.do(c.Answer(1, "second", "python"), 45, CANDIDATE)
    for at in (50, 60):
        lost = c.Activate("hidden-actor", "hidden-node", "crash", T0 + (at - 3) * 1000)
        story.do(lost, at, SYSTEM)
    story.do(c.Park("hidden-park", T0 + 70_000), 71, SYSTEM)
    story.do(c.Activate("hidden-actor", "hidden-node", "retry", T0 + 70_000, retry=True), 80, BOSS)
    story.do(c.Deactivate("hidden-drain"), 81, SYSTEM)
    story.do(c.Activate("hidden-actor", "hidden-node", "released", T0 + 81_000), 82, SYSTEM)
    still = {"id": "hidden-still", "at": T0 + 80_000, "sha256": "hidden", "because": "hidden", "verdict": "hidden"}
    ended = (seen("face_absent", "frames", 83, phase="ended"),)
    story.do(c.NoteFrames("hidden-batch", (T0 + 83_000,), ended, kept=(still,), thinned=("hidden-old",)), 84, SYSTEM)
    story.do(c.NoteHookFailure("hidden-hook", "hidden", off=True), 85, SYSTEM)
    story.do(c.Dispute(12, "my own words"), 86, CANDIDATE)
    story.do(c.NoteErased("reference", "hidden-because"), 87, SYSTEM)
    while story.state.open is not None and story.state.open.index < 4:
        due_at = story.state.due_at
        assert due_at is not None
        index = story.state.open.index
        story.do(c.Expire(), (due_at + 1 - T0) / 1000, SYSTEM, draft("half a", index) if index == 2 else None)
    story.do(c.End("hidden-end"), 2_000, BOSS, draft("to the end", 4))
    story.do(c.NoteRoom("closed"), 2_001, LIVEKIT)
    story.do(c.GiveVerdict("cleared", "hidden-verdict"), 2_002, BOSS)
    story.do(c.NoteReport(story.state.seq, "hidden-report"), 2_002, SYSTEM)
    story.do(c.Review("advance", "hidden-review"), 2_003, BOSS)
    story.do(c.Delete(), 2_003, BOSS)
    return story


CLOSED = "answer_saved or question_expired"
TOLD_AS: dict[str, tuple[str | None, str]] = {
    "created": (None, "journal"),
    "updated": ("state", "journal"),
    "started": ("state", "journal"),
    "consent_given": ("state", "journal"),
    "activated": ("state", "journal"),
    "parked": ("state", "journal"),
    "erased": ("state", "journal"),
    "recording": ("state", "journal"),
    "deactivated": (None, "journal"),
    "link_renewed": (None, "journal"),
    "candidate_seen": (None, "journal"),
    "deleted": (None, "journal"),
    "commands_noted": (None, "journal"),
    "frames": (None, "journal"),
    "evidence_thinned": (None, "journal"),
    "hook_failed": (None, "journal"),
    "hooks_suspended": (None, "journal"),
    "reference_captured": ("state", "proctoring"),
    "evidence_kept": (None, "proctoring"),
    "event_disputed": (None, "proctoring"),
    "verdict_given": (None, "proctoring"),
    "report_made": (None, "journal"),
    "review_decided": (None, "journal"),
    "proctoring_event": ("proctoring", "proctoring"),
    "question_opened": ("question", "question"),
    "question_closed": (CLOSED, CLOSED),
    "clock_credited": ("clock_credited", "clock_credited"),
    "extended": ("extended", "extended"),
    "paused": ("paused", "paused"),
    "resumed": ("resumed", "resumed"),
    "clock_stopped": ("connection", "connection"),
    **{kind: ("connection", "connection") for kinds in EVENT_TYPES.values() for kind in kinds},
    "livekit": ("livekit", "livekit"),
    "room_closed": ("livekit", "livekit"),
    "completed": ("completed", "completed"),
}
"""What each event of the journal is told as, to the candidate and to staff."""


def test_every_event_that_the_rules_know_is_looked_at_here() -> None:
    rules = [ROOT / "orchestrator/interview" / f"{name}.py" for name in ("decide", "presence", "proctoring")]
    known = {kind for path in rules for kind in re.findall(r'"type": "([a-z_]+)"', path.read_text())}
    assert known | {kind for kinds in EVENT_TYPES.values() for kind in kinds} == TOLD_AS.keys()
    happened = {e["type"] for entry, _ in everything().journal for e in entry.content()["events"]}
    assert happened == TOLD_AS.keys()


@pytest.mark.parametrize("role", ROLES)
def test_each_event_is_told_as_what_it_is(role: c.Role) -> None:
    story = everything()
    told: Told = {frame["seq"]: frame for frame in story.told(role)}
    for entry, _ in story.journal:
        events = entry.content()["events"]
        for seq, event in enumerate(events, entry.seq):
            expected = TOLD_AS[event["type"]][role == "staff"]
            if expected == CLOSED:
                expected = (
                    "question_expired" if event["source"] in ("draft", "timeout") and seq < 60 else "answer_saved"
                )
                expected = "question_expired" if "late_by" in event else "answer_saved"
            if role == "candidate" and event["type"] == "activated" and events[1]["type"] == "started":
                expected = None
            if role == "candidate" and event["type"] == "proctoring_event" and event["source"] != "page":
                expected = None
            frame = told.get(seq)
            assert (frame["type"] if frame else None) == expected, event
            assert frame is None or frame["at"] == frame["server_time"], "told at once"


def documented() -> dict[str, set[str]]:
    """The members of each frame that the documentation names, beside those that all have."""
    section = (ROOT / "docs/live_channel.md").read_text().split("## What the server sends")[1].split("\n## ")[0]
    found: dict[str, set[str]] = {}
    for row in re.findall(r"^\| (`.*)$", section, re.MULTILINE):
        kinds, members, *_ = re.sub(r"\([^)]*\)", "", row).split(" | ")
        names = set(re.findall(r"`(\w+)", members))
        for kind in re.findall(r"`(\w+)`", kinds):
            found[kind] = found[members[4:-1]] if members.startswith("as `") else names
    return found


@pytest.mark.parametrize("role", ROLES)
def test_frames_have_the_members_that_are_documented(role: c.Role) -> None:
    members = {kind: names - {"command_id"} for kind, names in documented().items()}
    members["state"] -= {"draft"}  # only the first one has it, from elsewhere
    members["journal"] = {"event"}
    also = {"answer_saved": {"max_questions"}, "clock_credited": {"network_credit_left_seconds"}}
    also["question_expired"] = also["answer_saved"]
    for frame in everything().told(role):
        kind = frame["type"]
        known = HEAD | members[kind] | also.get(kind, set())
        assert frame.keys() == known | ({"by", "event"} if role == "staff" else set()), kind


def test_staff_get_every_event_as_it_is_and_who_caused_it() -> None:
    story = everything()
    told = story.told("staff")
    expected = [
        (seq, event, entry.content()["by"])
        for entry, _ in story.journal
        for seq, event in enumerate(entry.content()["events"], entry.seq)
    ]
    assert [(f["seq"], _bare(f["event"]), f["by"]) for f in told] == [
        (s, _bare(event), by) for s, event, by in expected
    ]
    assert {"key:boss", "candidate", "livekit", "system"} <= {f["by"] for f in told}


def _bare(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in ("epoch", "at", "seen_at")}


def test_staff_are_told_when_something_was_seen_which_may_be_before_it_was_noted() -> None:
    story = Story().started()
    story.do(c.NoteSightings((seen("paste", "page", 5),)), 9, CANDIDATE)
    [frame] = story.last("staff")
    assert frame["at"] == "2023-11-14T22:13:29.000Z"
    assert frame["event"]["seen_at"] == "2023-11-14T22:13:25.000Z"


NOT_FOR_CANDIDATES = {"questions", "by", "placement", "integrity", "metadata", "verdict", "sensitivity", "files"}


def test_a_candidate_is_told_nothing_of_what_is_staffs() -> None:
    for frame in everything().told("candidate"):
        assert not keys_of(frame) & NOT_FOR_CANDIDATES, frame["type"]
        assert "event" not in frame or frame["type"] == "proctoring"
        text = json.dumps(frame)
        assert "hidden" not in text.replace("tab_hidden", "") and "boss" not in text, frame
        for kind in ("face_absent", "second_device", "network_lost"):
            assert kind not in text


def keys_of(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for part in value.values() for key in keys_of(part)}
    return {key for part in value for key in keys_of(part)} if isinstance(value, list) else set()


def test_a_candidate_sees_questions_once_they_are_open_and_not_before() -> None:
    for entry, state in everything().journal:
        maker = FrameMaker("candidate", CAP)
        for frame in (maker.state(state, entry.at), *maker.frames(entry, state, entry.at)):
            assert asked(frame) <= opened(state), frame["type"]


def asked(frame: Frame) -> set[str]:
    return set(re.findall(r"Question \d\?", json.dumps(frame)))


def opened(state: State) -> set[str]:
    return {q.text for q in state.questions[: len(state.answers) + (state.open is not None)]}


def test_of_proctoring_a_candidate_sees_what_their_own_page_told() -> None:
    told = [frame["event"] for frame in everything().told("candidate") if frame["type"] == "proctoring"]
    assert told == [
        {"type": "tab_hidden", "phase": "began", "detail": {"text": "before"}},
        {"type": "tab_hidden", "phase": "ended"},
        {"type": "paste", "count": 2, "detail": {"size": 9}},
    ]


# Single frames


@pytest.mark.parametrize("role", ROLES)
def test_the_state_is_the_session_as_the_reader_may_see_it(role: c.Role) -> None:
    story = everything()
    state = story.journal[-2][1]
    assert FrameMaker(role, CAP, policy()).state(state, T0 + 5_000_000) == {
        "type": "state",
        "server_time": "2023-11-14T23:36:40.000Z",
        "as_of": state.seq,
        "session": session_view(state, T0 + 5_000_000, role, policy()),
        "network_credit_left_seconds": 170.0,
    }


def test_a_question_is_told_with_its_clock() -> None:
    story = Story().started(at=5)
    [_, frame] = story.last()
    assert frame["type"] == "question" and frame["question"] == current_question(story.state, T0 + 5_000)
    assert frame["question"]["text"] == "Question 0?" and frame["question"]["remaining_seconds"] == 120


def test_a_question_that_is_closed_by_now_is_told_without_a_clock() -> None:
    story = Story(questions=2).started()
    story.do(c.Answer(0, "a"), 5, CANDIDATE)
    entry = story.journal[1][0]
    [_, frame] = FrameMaker("candidate", CAP).frames(entry, story.state, T0 + 6_000)
    assert frame["question"] == {
        "index": 0,
        "text": "Question 0?",
        "type": "text",
        "time_limit_seconds": 120.0,
        "opened_at": "2023-11-14T22:13:20.000Z",
    }
    assert (frame["at"], frame["server_time"]) == ("2023-11-14T22:13:20.000Z", "2023-11-14T22:13:26.000Z")


@pytest.mark.parametrize(
    ("closes", "at", "text", "kind", "source", "answer"),
    [
        (c.Answer(0, "mine"), 5, None, "answer_saved", "submitted", "mine"),
        (c.Answer(0, "mine"), 5, "a draft", "answer_saved", "submitted", "mine"),
        (c.Expire(), 122.001, "a draft", "question_expired", "draft", "a draft"),
        (c.Expire(), 122.001, None, "question_expired", "timeout", ""),
        (c.End(), 5, "a draft", "answer_saved", "draft", "a draft"),
    ],
)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("last", [True, False])
def test_what_became_of_a_question(
    closes: c.Command, at: float, text: str | None, kind: str, source: str, answer: str, role: c.Role, last: bool
) -> None:
    story = Story(questions=1 if last else 2).started()
    story.do(closes, at, CANDIDATE, draft(text) if text else None)
    [frame, following] = story.last(role)
    assert frame["type"] == kind and frame["question_index"] == 0
    assert frame["current_question_count"] == 1 and frame["max_questions"] == len(story.state.questions)
    assert frame["answer"] == session_view(story.state, T0)["answers"][0]
    assert (frame["answer"]["source"], frame["answer"]["answer"]) == (source, answer)
    assert following["type"] == ("completed" if last or isinstance(closes, c.End) else "question")


def test_the_end_is_told_with_the_whole_session() -> None:
    story = Story(questions=1).started()
    story.do(c.End(), 5, BOSS)
    [frame] = story.last()
    assert (frame["type"], frame["end_reason"]) == ("completed", "ended_by_staff")
    assert frame["session"] == session_view(story.state, T0 + 5_000, "candidate")
    [frame] = story.last("staff")
    assert frame["session"]["questions"] and frame["session"]["proctoring"]["integrity"]["policy"] == "standard-1"


def test_a_stopped_clock_has_no_deadline_and_says_what_is_left() -> None:
    story = Story().started()
    story.do(c.Pause("x"), 20)
    [frame] = story.last()
    assert frame["type"] == "paused" and frame["question"] == current_question(story.state, T0 + 20_000)
    assert (frame["question"]["deadline"], frame["question"]["remaining_seconds"]) == (None, 100)
    story.do(c.Resume(), 50)
    [frame] = story.last()
    assert frame["type"] == "resumed" and frame["question"]["deadline"] == "2023-11-14T22:15:50.000Z"
    story.do(c.Extend(30, "x"), 60)
    [frame] = story.last()
    assert (frame["type"], frame["seconds"]) == ("extended", 30)
    assert frame["question"]["deadline"] == "2023-11-14T22:16:20.000Z"
    assert "reason" not in frame


def test_time_that_is_given_back_is_told_with_its_cause() -> None:
    story = Story().started()
    story.do(c.Credit(T0 + 10_000, "storage_unavailable", T0 + 12_500), 13, SYSTEM)
    [frame] = story.last()
    assert (frame["type"], frame["seconds"], frame["cause"]) == ("clock_credited", 2.5, "storage_unavailable")
    assert frame["question"]["remaining_seconds"] == 109.5 and frame["network_credit_left_seconds"] == 180


def test_a_question_is_told_as_it_is_by_now() -> None:
    """Of an event that was missed, too: what comes after it is in the clock already."""
    story = Story(questions=2).started()
    story.do(c.Extend(30, "x"), 10)
    extension = story.journal[-1][0]
    story.do(c.Answer(0, "a"), 20, CANDIDATE)
    maker = FrameMaker("candidate", CAP)
    [frame] = maker.frames(extension, story.state, T0 + 25_000)
    assert frame["question"] == current_question(story.state, T0 + 25_000) and frame["question"]["index"] == 1
    story.do(c.End(), 30, BOSS)
    [frame] = maker.frames(extension, story.state, T0 + 35_000)
    assert frame["question"] is None


@pytest.mark.parametrize(("source", "other"), [("channel", "livekit"), ("livekit", "channel")])
@pytest.mark.parametrize(
    ("reason", "state"), [("client_initiated", "closed"), ("signal_close", "lost"), ("server_shutdown", "lost")]
)
def test_connections_are_told(source: c.Source, other: str, reason: str, state: str) -> None:
    story = Story().started()
    story.join(1, "x", source)
    [frame] = story.last()
    assert (frame["source"], frame["state"], frame["question"]["remaining_seconds"]) == (source, "opened", 119)
    story.leave(10, reason, connection="x", source=source)
    [frame, *stopped] = story.last()
    assert (frame["source"], frame["state"]) == (source, state) and other not in json.dumps(frame)
    assert [(f["type"], f["source"], f["state"]) for f in stopped] == [("connection", None, "clock_stopped")] * (
        state == "lost"
    )
    assert all(f["question"]["deadline"] is None for f in stopped)


def test_a_room_is_told_as_in_the_session() -> None:
    story = Story().started()
    story.do(c.NoteRoom("live", "ws://livekit.test"), 1, LIVEKIT)
    [frame] = story.last()
    assert frame["type"] == "livekit" and frame["livekit"] == livekit_view(story.state)
    assert frame["livekit"]["mode"] == "live"


def test_what_is_left_of_the_time_for_lost_connections() -> None:
    story = Story(text_question_timer=7_200).started()

    def left(credit_ms: int = CAP) -> float:
        return FrameMaker("candidate", credit_ms).state(story.state, T0)["network_credit_left_seconds"]

    assert (left(), left(0), left(90_000)) == (180, 0, 90)
    for time in range(3):
        at = 100 * (time + 1)
        story.join(at, f"c{time}", "channel")
        story.leave(at + 10, connection=f"c{time}", source="channel")
        assert story.last()[-1]["network_credit_left_seconds"] == left() == 180 - 10 * time
        story.join(at + 20, f"d{time}", "channel")
        [opened, credited] = story.last()
        used = 10 * (time + 1)
        expected = 180 - used if time < 2 else 0
        assert credited["network_credit_left_seconds"] == opened["network_credit_left_seconds"] == expected
        assert (left(), left(15_000)) == (expected, max(0, 15 - used) if time < 2 else 0)
        story.leave(at + 30, "client_initiated", connection=f"d{time}", source="channel")


def test_what_is_left_is_none_once_the_cap_is_reached() -> None:
    story = Story()
    story.lost(at=10)
    story.do(c.Expire(), 190.001, SYSTEM)
    [frame] = story.last()
    assert (frame["seconds"], frame["network_credit_left_seconds"]) == (180, 0)


# States


def test_a_start_is_told_as_one_state() -> None:
    story = Story()
    story.by = "candidate"
    story.started(at=1)
    first = story.journal[1][0].seq
    frames = story.last("candidate")
    assert [(f["seq"], f["type"]) for f in frames] == [(first + 1, "state"), (first + 2, "question")]
    assert frames[0]["as_of"] == first + 2 and frames[0]["session"]["status"] == "in_progress"
    assert [(f["seq"], f["type"]) for f in story.last("staff")] == [
        (first, "journal"),
        (first + 1, "journal"),
        (first + 2, "question"),
    ]


@pytest.mark.parametrize(
    ("command", "kinds"),
    [
        (c.Update({"name": "Grace"}), ["state"]),
        (c.Consent("v1"), ["state"]),
        (c.NoteReference("sha", "e", "1"), ["state", "state"]),
        (c.NewLink(), []),
    ],
)
def test_what_changes_before_the_start_is_told_as_states(command: c.Command, kinds: list[str]) -> None:
    story = Story()
    story.do(command, 1)
    frames = story.last()
    assert types(frames) == kinds
    assert not frames or [f["seq"] for f in frames] == list(range(story.journal[-1][0].seq, story.state.seq + 1))
    for frame in frames:
        assert frame["session"] == session_view(story.state, T0 + 1_000, "candidate")


def test_another_actor_is_told_as_a_state() -> None:
    story = Story().started()
    story.do(c.Activate("b", "n2", "crash", T0 + 10_000), 14, SYSTEM)
    [moved, credited] = story.last()
    assert (moved["type"], moved["seq"]) == ("state", story.journal[-1][0].seq)
    assert moved["session"]["status_detail"] == "question_open" and moved["as_of"] == story.state.seq
    assert (credited["type"], credited["seconds"], credited["seq"]) == ("clock_credited", 4, moved["seq"] + 1)


def test_parking_is_told_as_a_state_with_its_clock_standing() -> None:
    story = Story().started()
    story.do(c.Park("no node has room", T0 + 10_000), 14, SYSTEM)
    [frame] = story.last()
    assert frame["type"] == "state" and frame["session"]["status_detail"] == "parked"
    question = frame["session"]["current_question"]
    assert (question["deadline"], question["remaining_seconds"]) == (None, 110)
    assert "no node has room" not in json.dumps(frame)
    assert types(story.last("staff")) == ["journal"]


def test_letting_go_is_not_told_to_candidates() -> None:
    story = Story().started()
    story.do(c.Deactivate("drain"), 5, SYSTEM)
    assert story.last() == [] and types(story.last("staff")) == ["journal"]


# Where the reader has been


@pytest.mark.parametrize("role", ROLES)
def test_within_an_entry_only_what_comes_after_is_told(role: c.Role) -> None:
    story = Story(questions=2).started()
    story.do(c.Answer(0, "a"), 5, CANDIDATE)
    entry = story.journal[-1][0]
    maker = FrameMaker(role, CAP)
    for after, expected in [(0, ["answer_saved", "question"]), (entry.seq, ["question"]), (entry.seq + 1, [])]:
        assert types(maker.frames(entry, story.state, T0, after)) == expected


def test_an_erased_entry_is_told_as_nothing() -> None:
    entry = first_entry()
    erased = Entry(entry.session_id, entry.seq, entry.epoch, entry.at, "", entry.digest)
    assert FrameMaker("staff", CAP).frames(erased, fold(None, entry), T0) == []


connections = st.sampled_from(["fe-1:a", "fe-1:b", "fe-2:a", "PA_1"])
sources = st.sampled_from(["channel", "livekit"])
reasons = st.sampled_from([*sorted(NOT_THE_CANDIDATES_DOING), "client_initiated", "duplicate_identity"])
moments = st.integers(T0, T0 + 600_000)
kinds = st.sampled_from(["tab_hidden", "paste", "custom:a", "custom:b", "face_absent"])
sighting = st.builds(Sighting, kinds, st.sampled_from(["page", "frames", "staff"]), moments)
news = st.one_of(
    st.builds(c.NoteConnected, connections, sources),
    st.builds(c.NoteDisconnected, connections, reasons, moments, st.sampled_from([0, 20_000, CAP]), sources),
    st.builds(lambda *found: c.NoteSightings(found), sighting, sighting, sighting),
    st.builds(c.NoteRoom, st.sampled_from(["live", "fallback"]), texts, texts),
    st.builds(c.Park, texts, moments),
    st.builds(c.NoteReference, texts, texts, texts),
    st.builds(c.NoteErased, st.just("reference"), texts),
)
happenings = st.lists(
    st.tuples(
        command | news, st.integers(-5_000, 200_000), st.sampled_from([STAFF, CANDIDATE, SYSTEM]), st.none() | texts
    ),
    max_size=40,
)
Happenings = list[tuple[c.Command, int, c.Caller, str | None]]


def random_story(happened: Happenings, questions: int) -> Story:
    story, now = Story(questions=questions), T0
    for what, later, caller, text in happened:
        now, state = max(0, now + later), story.state
        kept = draft(text, state.open.index) if text and state.open else None
        try:
            planned = plan(state, what, caller, None, max(now, state.at), kept)
        except OrchestratorError:
            continue
        story.by = caller.principal
        story.write(planned.events, max(now, state.at))
    return story


def check_split(story: Story, role: c.Role, after: int) -> None:
    """Who went after that event and comes back at the end has been told the same as one who was there all the time."""
    at_once = story.told(role)
    seqs = [frame["seq"] for frame in at_once]
    assert seqs == sorted(set(seqs)), "strictly increasing"
    maker, end = FrameMaker(role, CAP), story.state
    missed = [f for entry, _ in story.journal for f in maker.frames(entry, end, end.at + 1, after)]
    parts = [*(f for f in at_once if f["seq"] <= after), *missed]
    assert [(f["seq"], f["type"], f["at"]) for f in parts] == [(f["seq"], f["type"], f["at"]) for f in at_once]
    for frame in (*at_once, *missed, maker.state(end, end.at)):
        text = json.dumps(frame, allow_nan=False)
        assert json.loads(text) == frame and text.encode()


@settings(max_examples=300, deadline=None)
@given(happenings, st.integers(1, 5), st.sampled_from(ROLES), st.integers(0, 120))
def test_what_was_missed_and_what_was_seen_are_the_whole(
    happened: Happenings, questions: int, role: c.Role, after: int
) -> None:
    story = random_story(happened, questions)
    check_split(story, role, after % (story.state.seq + 1))


@settings(max_examples=100, deadline=None)
@given(lives, st.sampled_from(ROLES), st.integers(0, 120))
def test_so_it_is_while_connections_come_and_go(life: Any, role: c.Role, after: int) -> None:
    stories: list[Story] = []

    def remembered(**changes: Any) -> Story:
        stories.append(Story(**changes))
        return stories[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_presence, "Call", remembered)
        play(life)
    [story] = stories
    check_split(story, role, after % (story.state.seq + 1))


@settings(max_examples=200, deadline=None)
@given(happenings, st.integers(1, 5))
def test_whatever_happens_a_candidate_sees_no_question_to_come(happened: Happenings, questions: int) -> None:
    story, maker = random_story(happened, questions), FrameMaker("candidate", CAP)
    for entry, state in story.journal:
        for frame in (maker.state(state, entry.at), *maker.frames(entry, state, entry.at)):
            assert asked(frame) <= opened(state)
            assert not keys_of(frame) & NOT_FOR_CANDIDATES
            assert frame["type"] != "journal" and ("event" not in frame or frame["type"] == "proctoring")
