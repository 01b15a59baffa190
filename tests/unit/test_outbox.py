"""What receivers of webhooks are told of an entry."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.interview.commands import (
    SYSTEM,
    Accommodations,
    Answer,
    Caller,
    Command,
    Delete,
    End,
    NoteConnected,
    NoteDisconnected,
    NoteReport,
    NoteSightings,
    Pause,
    Resume,
    Review,
    Start,
)
from orchestrator.interview.decide import created, decide
from orchestrator.interview.entry import Entry, new_entry
from orchestrator.interview.fold import fold
from orchestrator.interview.outbox import EVENT_TYPES, Notice, notices, with_notices
from orchestrator.interview.sightings import Sighting
from orchestrator.interview.state import State
from orchestrator.policies import policy_of
from tests.unit.world import CANDIDATE, STAFF, T0, create_command


class Told:
    """A session whose notices are collected."""

    def __init__(self, **changes: Any) -> None:
        self.now = T0
        entry = new_entry("s1", 1, 0, T0, created(create_command(**changes)), by="staff")
        self.notices = notices(entry, None, None)
        self.state: State = fold(None, entry)

    def do(self, command: Command, caller: Caller = STAFF, seconds: float = 1) -> list[Notice]:
        self.now += round(seconds * 1000)
        events = decide(self.state, command, caller, self.now)
        entry = new_entry("s1", self.state.next_seq, self.state.epoch, self.now, events)
        told = notices(entry, self.state, policy_of(self.state))
        self.state = fold(self.state, entry)
        self.notices += told
        return told


def types(told: list[Notice]) -> list[str]:
    return [notice.type for notice in told]


def test_a_whole_interview_is_told_in_order() -> None:
    told = Told(questions=2)
    told.do(Start())
    told.do(Answer(0, "a"), CANDIDATE)
    told.do(Pause("lunch with Ada"))
    told.do(Resume())
    told.do(Answer(1, "b"), CANDIDATE)
    told.do(NoteReport(told.state.seq, "0" * 64, 97.5), SYSTEM)
    told.do(Review("advance", "Ada is good"))
    told.do(Delete())
    assert types(told.notices) == [
        "interview.created",
        "interview.started",
        "interview.question_closed",
        "interview.paused",
        "interview.resumed",
        "interview.question_closed",
        "interview.completed",
        "report.ready",
        "review.decided",
        "interview.deleted",
    ]
    assert [notice.seq for notice in told.notices] == sorted({notice.seq for notice in told.notices})
    assert told.notices[2].data == {"question_index": 0, "source": "submitted"}
    assert told.notices[6].data == {"end_reason": "finished"}
    assert set(types(told.notices)) <= set(EVENT_TYPES)


def test_notices_hold_nobodys_name_address_or_words() -> None:
    told = Told(name="Ada Lovelace", email="ada@example.com", questions=2)
    told.do(Start())
    told.do(Answer(0, "my own words"), CANDIDATE)
    told.do(Pause("Ada is ill"))
    told.do(End("Ada gave up"))
    told.do(Review("reject", "Ada was ill"))
    text = json.dumps([notice.data for notice in told.notices])
    for word in ("Ada", "ada@", "secret", "words", "ill", "gave up"):
        assert word not in text


def test_who_goes_and_comes_back_is_told_once_each() -> None:
    told = Told(questions=1)
    assert told.do(NoteConnected("fe:1", "channel")) == [], "nobody is waited for yet"
    assert told.do(NoteDisconnected("fe:1", "client", T0, 180_000, "channel")) == [], "who waits comes and goes"
    told.do(NoteConnected("fe:2", "channel"))
    told.do(Start())
    assert told.do(NoteConnected("fe:3", "channel")) == [], "a reload replaces the connection"
    assert told.do(NoteDisconnected("fe:2", "client", told.now, 180_000, "channel")) == []
    [lost] = told.do(NoteDisconnected("fe:3", "no_heartbeat", told.now, 180_000, "channel"))
    assert (lost.type, lost.data) == (
        "interview.disconnected",
        {"reason": "no_heartbeat", "clock_stopped": True},
    )
    assert types(told.do(NoteConnected("fe:4", "channel"), seconds=5)) == ["interview.reconnected"]
    [left] = told.do(NoteDisconnected("fe:4", "client", told.now, 180_000, "channel"))
    assert left.data == {"reason": "client", "clock_stopped": False}
    told.do(End())
    assert told.do(NoteConnected("fe:5", "channel")) == []


@pytest.mark.parametrize(
    ("kind", "severity"), [("paste", "medium"), ("multiple_faces", "high"), ("copy", None), ("network_lost", None)]
)
def test_what_the_policy_takes_seriously_is_flagged(kind: str, severity: str | None) -> None:
    told = Told(questions=1)
    told.do(Start())
    found = told.do(NoteSightings((Sighting(kind, "page", told.now),)), SYSTEM)
    flagged = [notice for notice in found if notice.type == "proctoring.flagged"]
    assert [notice.data["severity"] for notice in flagged] == ([severity] if severity else [])
    assert all(notice.data["event"] == kind for notice in flagged)


def test_an_interval_is_flagged_when_it_begins() -> None:
    told = Told(questions=1)
    told.do(Start())
    assert types(told.do(NoteSightings((Sighting("tab_hidden", "page", told.now, "began"),)), SYSTEM)) == [
        "proctoring.flagged"
    ]
    assert told.do(NoteSightings((Sighting("tab_hidden", "page", told.now + 500, "ended"),)), SYSTEM) == []


def test_who_is_exempt_from_the_camera_is_not_flagged_by_it() -> None:
    told = Told(questions=1, accommodations=Accommodations(camera_exempt=True))
    told.do(Start())
    assert told.do(NoteSightings((Sighting("face_absent", "frames", told.now),)), SYSTEM) == []


def test_notices_are_no_part_of_what_is_sealed() -> None:
    entry = new_entry("s1", 1, 0, T0, created(create_command()), by="staff")
    told = with_notices(entry, None, None)
    assert told.deliver and told.digest == entry.digest and told.is_same_write(entry)
    [notice] = json.loads(told.deliver)
    assert (notice["seq"], notice["type"]) == (1, "interview.created")
    quiet = replace(entry, body=new_entry("s1", 2, 0, T0, [{"type": "link_renewed", "generation": 1}]).body)
    assert with_notices(quiet, None, None) is quiet and isinstance(quiet, Entry)
