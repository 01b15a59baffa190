"""What proctoring enters of what was seen, and what the journal adds up to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from itertools import pairwise, product
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import CommandIdReused, InvalidInput, NotFound, OrchestratorError, StateConflict
from orchestrator.interview import commands as c
from orchestrator.interview.allowed import ALLOWED_ACTIONS as ALLOWED
from orchestrator.interview.allowed import allowed_actions
from orchestrator.interview.decide import created, decide, room_event
from orchestrator.interview.entry import Entry, new_entry
from orchestrator.interview.fold import fold, fold_all
from orchestrator.interview.integrity import Timeline, judged, score_of, timeline
from orchestrator.interview.proctoring import MAX_PAGE_EVENTS, check_pictures, check_replacement, is_repeat
from orchestrator.interview.sightings import (
    LASTING,
    MAX_BATCHES,
    MAX_CALLS,
    MAX_KINDS,
    MAX_STRETCHES,
    MOMENTARY,
    OTHER,
    WITHDRAWN,
    Open,
    Phase,
    Proctoring,
    Seen,
    Sighting,
    Source,
    Tally,
    check_kind,
)
from orchestrator.interview.state import MAX_FRUITLESS_ACTIVATIONS, dump_state, load_state
from orchestrator.interview.view import event_views, session_view
from orchestrator.policies import policy
from tests.unit.test_presence import Call
from tests.unit.world import CANDIDATE, STAFF, T0, create_command

HOW = {"policy": "standard-1", "frame_seconds": 15.0}
EXEMPT = c.Accommodations(camera_exempt=True)
LIVE = room_event("live", "wss://livekit.example", None)
Event = dict[str, Any]


def ms(at: float) -> int:
    return T0 + round(at * 1000)


def seen(kind: str, at: float, phase: Phase | None = None, source: Source = "page", **more: Any) -> Sighting:
    return Sighting(kind, source, ms(at), phase, **more)


class Proctored(Call):
    """An interview that is watched, with its whole journal."""

    def __init__(self, proctoring: Event | None = HOW, room: Event | None = None, **changes: Any) -> None:
        events = created(create_command(**changes), room, proctoring)
        self.entries: list[Entry] = [new_entry("s1", 1, 0, T0, events, by="staff")]
        self.state = fold(None, self.entries[0])

    def write(self, events: list[Event], now: int) -> list[str]:
        if events:
            entry = new_entry("s1", self.state.next_seq, self.state.epoch, now, events, by="somebody")
            self.entries.append(entry)
            self.state = fold(self.state, entry)
        return [e["type"] for e in events]

    def started(self, at: float = 0) -> Proctored:
        super().started(at)
        return self

    def sees(self, at: float, *sightings: Sighting, caller: c.Caller = c.SYSTEM) -> list[Event]:
        """What is entered for a batch that comes at `at`."""
        events = decide(self.state, c.NoteSightings(sightings), caller, ms(at))
        self.write(events, ms(at))
        return events

    def stills(self, at: float, times: Iterable[float], *sightings: Sighting, **more: Any) -> list[str]:
        taken = tuple(ms(t) for t in times)
        return self.do(c.NoteFrames(f"batch-{len(self.entries)}", taken, sightings, **more), at, c.SYSTEM)

    def line(self, at: float) -> Timeline:
        return timeline(self.entries, ms(at))

    def tally(self, kind: str) -> tuple[int, float]:
        """How often, and for how many seconds."""
        tally = self.state.proctoring.tally(kind)
        return tally.count, tally.ms / 1000

    def the(self, kind: str, at: float = 10_000) -> Seen:
        """The only event of a kind in the timeline."""
        (found,) = (one for one in self.line(at).seen if one.kind == kind)
        return found


# A session's life


def is_open(call: Proctored, kind: str, source: str) -> bool:
    return any((o.kind, o.source) == (kind, source) for o in call.state.proctoring.open)


def test_a_session_is_created_with_how_it_is_proctored() -> None:
    call = Proctored({"policy": "strict-2", "frame_seconds": 5.0})
    assert (call.state.proctoring.policy, call.state.proctoring.frame_seconds) == ("strict-2", 5.0)
    assert call.view(0)["proctoring"] == {
        "session_id": "proctoring-s1",
        "status": "initialized",
        "policy": "strict-2",
        "watches": ["camera", "page"],
        "exemptions": [],
        "frame_seconds": 5.0,
        "started_at": None,
        "ended_at": None,
        "reference_captured_at": None,
        "hooks_suspended": False,
        "integrity": None,
        "verdict": None,
    }


def test_a_journal_from_before_there_was_proctoring_still_folds() -> None:
    old = created(create_command())
    assert old[0].pop("proctoring") == {}
    state = fold(None, new_entry("s1", 1, 0, T0, old))
    assert state.proctoring == Proctoring()
    before = json.loads(dump_state(state))
    del before["proctoring"]
    assert load_state(json.dumps(before)).proctoring == Proctoring()


def test_proctoring_goes_with_the_interview() -> None:
    call = Proctored(room=LIVE).started(5)
    view = call.view(10)["proctoring"]
    assert (view["status"], view["watches"]) == ("active", ["camera", "page", "video"])
    assert view["started_at"] == "2023-11-14T22:13:25.000Z" and view["ended_at"] is None
    call.do(c.End(), 20)
    view = call.view(30)["proctoring"]
    assert (view["status"], view["ended_at"]) == ("ended", "2023-11-14T22:13:40.000Z")


def test_what_was_cancelled_was_never_proctored() -> None:
    call = Proctored()
    call.do(c.End(), 20)
    view = session_view(call.state, ms(30), "staff", policy())["proctoring"]
    assert (view["status"], view["started_at"], view["ended_at"], view["integrity"]) == ("ended", None, None, None)


def test_an_exemption_is_named_and_the_camera_is_not_watched() -> None:
    view = Proctored(accommodations=EXEMPT).view(0, "candidate")["proctoring"]
    assert (view["watches"], view["exemptions"]) == (["page"], ["camera"])


def test_staff_see_a_score_once_the_interview_is_completed_and_candidates_none() -> None:
    call = Proctored()
    call.sees(1, seen("paste", 1))
    assert session_view(call.state, ms(1), "staff", policy())["proctoring"]["integrity"] is None
    call.started(5)
    call.sees(6, seen("paste", 6, count=4))
    call.do(c.GiveVerdict("cleared", "they were asked to paste"), 7)
    assert session_view(call.state, ms(7), "staff", policy())["proctoring"]["integrity"] is None
    assert judged(call.line(7), policy()).score == score_of(call.state, policy()) == 88, "it can be asked for"
    call.do(c.End(), 8)
    staff = session_view(call.state, ms(8), "staff", policy())["proctoring"]
    assert staff["integrity"] == {"score": 88.0, "label": "low", "policy": "standard-1"}
    assert staff["verdict"] == "cleared"
    candidate = session_view(call.state, ms(8), "candidate", policy())["proctoring"]
    assert candidate.items() == {k: v for k, v in staff.items() if k not in ("integrity", "verdict")}.items()
    assert session_view(call.state, ms(8), "staff")["proctoring"]["integrity"] is None, "without a policy"


def test_what_is_seen_makes_a_new_version_only_once_the_score_is_in_the_view() -> None:
    call = Proctored().started()
    version = call.state.version
    call.sees(5, seen("paste", 5), seen("tab_hidden", 5, "began"))
    call.sees(6, seen("tab_hidden", 6, "ended"))
    assert call.state.version == version, "If-Match holds whatever is seen"
    call.do(c.End(), 10)
    assert call.state.version == version + 1
    before = session_view(call.state, ms(11), "staff", policy())
    call.sees(11, seen("paste", 9, source="hook"))
    after = session_view(call.state, ms(11), "staff", policy())
    assert before["proctoring"]["integrity"] != after["proctoring"]["integrity"]
    assert call.state.version == version + 2


def test_candidates_do_not_read_the_verdict_in_the_journal() -> None:
    call = Proctored().started()
    call.do(c.GiveVerdict("escalated", "a colleague should look at this"), 7)
    assert "verdict_given" not in [e["type"] for e in event_views(call.entries, "candidate")]


# Kinds


def test_kinds_are_of_the_catalogue_or_custom() -> None:
    for kind in (*LASTING, *MOMENTARY, "custom:a", "custom:" + "z_9" * 13):
        check_kind(kind)
    assert not LASTING & MOMENTARY


@pytest.mark.parametrize(
    "kind", ["", "smile", "Paste", "custom:", "custom:A", "custom:a b", "custom:a\n", "custom:" + "a" * 41, "xcustom:a"]
)
def test_other_kinds_are_refused(kind: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_kind(kind, "/events/3/kind")
    assert caught.value.errors[0]["pointer"] == "/events/3/kind"


def test_beyond_so_many_kinds_they_count_as_one() -> None:
    call = Proctored().started()
    events = call.sees(5, *(seen(f"custom:k{n}", 5) for n in range(MAX_KINDS + 10)))
    assert len(events) == MAX_KINDS + 1 and call.tally(OTHER) == (10, 0)
    call.sees(6, seen("custom:new", 6), seen("custom:k3", 6))
    assert call.tally(OTHER) == (11, 0) and call.tally("custom:k3") == (2, 0) and call.tally("custom:new") == (0, 0)


@pytest.mark.parametrize(("source", "apart"), [("page", 0), ("staff", 0), ("hook", 10), ("livekit", 10)])
def test_only_kinds_from_outside_are_so_many(source: Source, apart: int) -> None:
    call = Proctored().started()
    call.sees(5, *(seen(f"custom:k{n}", 5) for n in range(MAX_KINDS)))
    call.sees(6, *(seen(f"custom:new{n}", 6, source=source) for n in range(10)))
    assert sum(call.tally(f"custom:new{n}")[0] for n in range(10)) == apart
    assert call.tally(OTHER) == (10 - apart, 0)


def test_no_flood_of_custom_kinds_hides_what_is_in_the_catalogue() -> None:
    call = Proctored().started()
    call.sees(5, *(seen(f"custom:k{n}", 5) for n in range(MAX_KINDS)))
    call.sees(6, seen("face_mismatch", 6, "began", "frames"))
    assert call.tally("face_mismatch") == (1, 0)


# Points and intervals


def test_a_point_is_one_event() -> None:
    call = Proctored().started()
    (event,) = call.sees(5, seen("paste", 4, detail={"size": 12}))
    assert event == {
        "type": "proctoring_event",
        "event": "paste",
        "source": "page",
        "at": ms(4),
        "count": 1,
        "detail": {"size": 12},
    }
    assert call.tally("paste") == (1, 0)
    assert call.the("paste") == Seen(call.state.seq, "paste", "page", ms(4), detail={"size": 12})


def test_an_interval_begins_and_ends() -> None:
    call = Proctored().started()
    (began,) = call.sees(10, seen("tab_hidden", 10, "began", detail={"tab": 1}))
    number = call.state.seq
    assert (began["phase"], began["at"]) == ("began", ms(10)) and is_open(call, "tab_hidden", "page")
    assert call.the("tab_hidden", 25) == Seen(
        number, "tab_hidden", "page", ms(10), None, 15_000, True, detail={"tab": 1}
    )
    (ended,) = call.sees(40, seen("tab_hidden", 39, "ended", detail={"back": "click"}))
    assert (ended["phase"], ended["of"], ended["until"]) == ("ended", number, ms(39))
    assert call.tally("tab_hidden") == (1, 29) and not call.state.proctoring.open
    assert call.the("tab_hidden") == Seen(
        number, "tab_hidden", "page", ms(10), ms(39), 29_000, True, detail={"tab": 1, "back": "click"}
    )


def test_a_whole_interval_is_one_event() -> None:
    call = Proctored().started()
    (event,) = call.sees(60, seen("noise", 20, duration_ms=30_000))
    assert (event["at"], event["until"], event["ms"]) == (ms(20), ms(50), 30_000) and "phase" not in event
    assert call.tally("noise") == (1, 30)
    assert call.the("noise").lasts
    call.sees(80, seen("noise", 70, duration_ms=60_000))
    assert call.tally("noise") == (2, 40), "it has not lasted longer than until now"


def test_a_flood_of_points_is_one_event_with_the_detail_of_the_largest() -> None:
    call = Proctored().started()
    sizes = [(n * 37) % 1000 for n in range(1000)]
    (event,) = call.sees(9, *(seen("paste", 5 + n / 1000, detail={"size": size}) for n, size in enumerate(sizes)))
    assert event["count"] == 1000 and event["at"] == ms(5) and event["detail"] == {"size": max(sizes)}
    assert call.tally("paste") == (1000, 0)


def test_details_without_a_size_that_can_be_compared_are_no_trouble() -> None:
    call = Proctored().started()
    sizes: list[Event] = [{}, {"size": "big"}, {"size": None}, {"size": 2.5}, {"size": [9]}]
    (event,) = call.sees(9, *(seen("paste", 5, detail=size) for size in sizes))
    assert event["detail"] == {"size": 2.5} and event["count"] == 5


def test_what_flickers_is_one_whole() -> None:
    call = Proctored().started()
    edges: list[Sighting] = []
    for n in range(500):
        edges += [seen("focus_lost", 10 + n / 10, "began"), seen("focus_lost", 10.05 + n / 10, "ended")]
    (event,) = call.sees(70, *edges)
    assert (event["count"], event["ms"], event["at"], event["until"]) == (500, 25_000, ms(10), ms(59.95))
    assert call.tally("focus_lost") == (500, 25) and not call.state.proctoring.open


def test_a_batch_has_four_events_of_a_kind_and_source_at_most() -> None:
    call = Proctored()
    call.sees(10, seen("tab_hidden", 10, "began"))
    call.started(20)
    edges = [seen("tab_hidden", 30 + n, "ended" if n % 2 == 0 else "began") for n in range(10)]
    before = [seen("tab_hidden", n, duration_ms=500) for n in range(5)]
    events = call.sees(60, *before, *edges, seen("tab_hidden", 50, duration_ms=500))
    assert [(e.get("phase"), e.get("count")) for e in events] == [
        ("ended", None),
        (None, 5),
        (None, 5),
        ("began", None),
    ]
    assert call.tally("tab_hidden") == (7, 14.5), "it lasted on, 5 wholes, and one that lasts"


def test_a_batch_has_three_of_them_once_all_is_after_the_start() -> None:
    call = Proctored().started()
    call.sees(10, seen("tab_hidden", 10, "began"))
    edges = [seen("tab_hidden", 20 + n, "ended" if n % 2 == 0 else "began") for n in range(10)]
    events = call.sees(40, *edges)
    assert [e.get("phase") for e in events] == ["ended", None, "began"]
    assert events[1]["count"] == 4 and events[1]["ms"] == 4_000
    assert call.tally("tab_hidden") == (6, 14)


def test_what_is_known_already_is_left_out() -> None:
    call = Proctored().started()
    assert call.sees(5, seen("tab_hidden", 5, "ended")) == [], "nothing has begun"
    call.sees(10, seen("tab_hidden", 10, "began"))
    assert call.sees(12, seen("tab_hidden", 12, "began")) == [], "it lasts"
    assert call.sees(13) == []
    assert call.tally("tab_hidden") == (1, 0)


def test_what_another_source_sees_is_an_interval_of_its_own() -> None:
    call = Proctored().started()
    call.sees(10, seen("face_absent", 10, "began", "frames"))
    assert len(call.sees(12, seen("face_absent", 12, "began", "hook"))) == 1
    assert call.sees(15, seen("face_absent", 15, "ended", "page")) == []
    call.sees(20, seen("face_absent", 20, "ended", "hook"))
    assert is_open(call, "face_absent", "frames") and call.tally("face_absent") == (2, 8)


def test_times_that_cannot_be_are_moved() -> None:
    call = Proctored().started()
    future, past = call.sees(50, seen("paste", 900), seen("copy", -900))
    assert (future["at"], past["at"]) == (ms(50), ms(0))
    (began,) = call.sees(60, seen("noise", 60, "began"))
    (ended,) = call.sees(70, seen("noise", 55, "ended"))
    assert began["at"] == ended["until"] == ms(60), "nothing ends before it begins"
    assert call.tally("noise") == (1, 0)
    (flash,) = call.sees(80, seen("noise", 75, "began"), seen("noise", 72, "ended"))
    assert (flash["until"], flash["ms"]) == (ms(75), 0)


AGAIN: list[tuple[float, Phase]] = [(1, "began"), (50, "ended"), (2, "began"), (50, "ended")]


@pytest.mark.parametrize(
    "sightings",
    [[seen("tab_hidden", 0, duration_ms=60_000)] * 3, [seen("tab_hidden", at, phase) for at, phase in AGAIN]],
    ids=["whole", "edges"],
)
def test_no_interval_lasts_longer_than_the_interview(sightings: list[Sighting]) -> None:
    call = Proctored().started()
    call.sees(60, *sightings)
    assert call.tally("tab_hidden")[1] <= 60


def test_of_whole_intervals_only_the_time_counts_that_was_not_counted_before() -> None:
    call = Proctored().started()
    call.sees(60, seen("tab_hidden", 10, duration_ms=20_000))
    call.sees(61, seen("tab_hidden", 20, duration_ms=20_000, source="hook"))
    call.sees(62, seen("noise", 20, duration_ms=20_000))
    assert call.tally("tab_hidden") == (2, 30) and call.tally("noise") == (1, 20)
    call.sees(63, seen("tab_hidden", 35, duration_ms=10_000), seen("tab_hidden", 41, duration_ms=9_000))
    assert call.tally("tab_hidden") == (4, 40)
    assert judged(call.line(99), policy()).score == score_of(call.state, policy())


def test_nor_does_it_if_it_is_told_several_times() -> None:
    call = Proctored().started()
    for at in (60, 61, 62):
        call.sees(at, seen("tab_hidden", 0, duration_ms=60_000))
    assert call.tally("tab_hidden")[1] <= 62


# Bounds, and who may still say something after the end


def nearly_full(left: int) -> Proctored:
    call = Proctored().started()
    sent = replace(call.state.proctoring, page_events=MAX_PAGE_EVENTS - left)
    call.state = replace(call.state, proctoring=sent)
    return call


def test_what_the_page_sends_is_bounded_and_the_last_one_says_so() -> None:
    call = nearly_full(left=2)
    assert "detail" not in call.sees(5, seen("paste", 5))[0]
    kept, last = call.sees(6, seen("paste", 6), seen("copy", 6), seen("paste", 6, source="hook"))
    assert (kept["source"], last["source"], last["event"]) == ("hook", "page", "paste")
    assert "no more of them are kept" in last["detail"]["note"]
    assert call.state.proctoring.page_events == MAX_PAGE_EVENTS
    assert call.sees(7, seen("paste", 7)) == []
    assert [e["source"] for e in call.sees(8, seen("paste", 8), seen("noise", 8, source="livekit"))] == ["livekit"]


def test_the_bound_counts_what_the_page_has_sent_and_no_ends() -> None:
    call = Proctored().started()
    call.sees(5, seen("paste", 5), seen("tab_hidden", 5, "began"), seen("paste", 5, source="staff"))
    call.sees(6, seen("tab_hidden", 6, "ended"))
    assert call.state.proctoring.page_events == 2


def test_what_the_page_has_begun_can_end_beyond_the_bound() -> None:
    call = nearly_full(left=1)
    call.sees(5, seen("tab_hidden", 5, "began"))
    call.sees(6, seen("tab_hidden", 6, "ended"))
    assert not call.state.proctoring.open


def test_the_last_one_says_so_though_ends_get_in() -> None:
    call = Proctored().started()
    call.sees(5, seen("tab_hidden", 5, "began"))
    call.state = replace(call.state, proctoring=replace(call.state.proctoring, page_events=MAX_PAGE_EVENTS - 1))
    told = [
        *call.sees(6, seen("tab_hidden", 6, "ended")),
        *call.sees(7, seen("paste", 7)),
        *call.sees(8, seen("copy", 8)),
    ]
    assert "no more of them are kept" in json.dumps(told)


OURSELVES = seen("paste", 9, source="hook")


@pytest.mark.parametrize("caller", [CANDIDATE, STAFF], ids=["candidate", "staff"])
@pytest.mark.parametrize(
    "sightings",
    [
        (OURSELVES, seen("paste", 9, source="page")),
        (OURSELVES, seen("paste", 9, source="staff")),
        (OURSELVES,),
        (seen("tab_hidden", 9, "ended"),),
        (),
    ],
    ids=["page", "staff", "hook", "known", "nothing"],
)
def test_after_the_end_nothing_is_noted_from_outside(sightings: tuple[Sighting, ...], caller: c.Caller) -> None:
    call = Proctored().started()
    call.do(c.End(), 10)
    for command in (c.NoteSightings(sightings), c.NoteSightings((), (("key", "hash", sightings),))):
        with pytest.raises(StateConflict) as caught:
            call.do(command, 11, caller)
        assert caught.value.fields["current_status"] == "completed"
    assert not call.state.proctoring.calls and not call.state.proctoring.tallies


def test_what_came_before_the_end_and_waited_is_noted_after_it() -> None:
    call = Proctored().started()
    call.do(c.End(), 10)
    waited = c.NoteSightings((), (("key", "hash", (seen("paste", 9),)),), received_at=ms(10))
    assert call.do(waited, 11, CANDIDATE) == ["proctoring_event", "commands_noted"]
    with pytest.raises(StateConflict):
        call.do(replace(waited, received_at=ms(10) + 1), 11, CANDIDATE)


@pytest.mark.parametrize("source", ["hook", "frames", "livekit"])
def test_after_the_end_what_was_found_late_is_noted(source: Source) -> None:
    call = Proctored().started()
    call.do(c.End(), 10)
    assert len(call.sees(60, seen("custom:late", 9, source=source))) == 1
    call.do(c.Delete(), 70)
    with pytest.raises(NotFound):
        call.sees(80, seen("custom:late", 9, source=source))


# Identities


def test_the_calls_with_which_something_came_are_remembered() -> None:
    call = Proctored().started()
    batch = c.NoteSightings(
        (seen("paste", 5),),
        (("key-1", "hash-1", (seen("paste", 4),)), ("key-2", "hash-2", (seen("paste", 5), seen("paste", 5)))),
    )
    assert call.do(batch, 5) == ["proctoring_event", "commands_noted"]
    assert call.tally("paste") == (4, 0)
    assert is_repeat(call.state, ("key-1", "hash-1")) and is_repeat(call.state, ("key-2", "hash-2"))
    assert not is_repeat(call.state, ("key-3", "hash-1")) and not is_repeat(call.state, None)
    with pytest.raises(CommandIdReused):
        is_repeat(call.state, ("key-1", "hash-2"))
    version = call.state.version
    again = ("key-2", "hash-2", (seen("paste", 5),))
    more = ("key-3", "hash-3", (seen("copy", 7),))
    assert call.do(c.NoteSightings((), (again, more)), 7) == ["proctoring_event", "commands_noted"]
    assert call.tally("paste") == (4, 0), "what came with a key that was noted before is left out"
    assert call.state.version == version, "nobody sees what is remembered"
    known = (("key-1", "hash-1"), ("key-2", "hash-2"), ("key-3", "hash-3"))
    assert call.state.proctoring.calls == known and not call.state.commands, "they push no commands out"
    assert call.do(c.NoteSightings((), (("key-3", "hash-3", (seen("paste", 8),)),)), 8) == []


def test_what_comes_to_nothing_leaves_no_entry() -> None:
    call = Proctored().started()
    before, entries = call.state, len(call.entries)
    for sightings in ((seen("noise", 5, "ended"),), ()):
        assert call.do(c.NoteSightings((), (("key", "hash", sightings),)), 5) == []
    assert not is_repeat(call.state, ("key", "hash"))
    assert call.state == before and len(call.entries) == entries


def test_so_many_calls_are_remembered_however_long_ago() -> None:
    call = Proctored(text_question_timer=900).started()
    for n in range(MAX_CALLS + 1):
        call.do(c.NoteSightings((), ((f"key-{n}", "hash", (seen("paste", n),)),)), n)
    assert len(call.state.proctoring.calls) == MAX_CALLS
    known = [is_repeat(call.state, (f"key-{n}", "hash")) for n in range(MAX_CALLS + 1)]
    assert known == [False] + [True] * MAX_CALLS


def test_what_the_page_sends_is_no_sign_that_the_candidate_is_back() -> None:
    call = Proctored().started()
    call.join(0)
    call.leave(10)
    types = [e["type"] for e in call.sees(40, seen("copy", 39), caller=CANDIDATE)]
    assert types == ["proctoring_event"] and call.state.presence.lost
    assert call.view(40)["status_detail"] == "connection_lost" and call.tally("network_lost") == (1, 0)
    assert call.do(c.Consent(), 50, CANDIDATE) == ["clock_credited", "consent_given"]
    assert call.tally("network_lost") == (1, 40)


# Watched time


def test_a_pause_is_not_part_of_an_interval() -> None:
    call = Proctored().started()
    call.sees(10, seen("tab_hidden", 10, "began"))
    call.do(c.Pause(), 20)
    assert call.the("tab_hidden", 90).ms == 10_000
    call.do(c.Resume(), 100)
    call.sees(110, seen("tab_hidden", 110, "ended"))
    assert call.tally("tab_hidden") == (1, 20) and call.the("tab_hidden").until == ms(110)


def test_positions_are_exact_over_breaks() -> None:
    call = Proctored().started(10)
    for begin in (20, 40, 60):
        call.do(c.Pause(), begin)
        call.do(c.Resume(), begin + 10)
    p = call.state.proctoring
    times = (5, 10, 15, 20, 25, 30, 35, 40, 49, 55, 70, 75)
    assert [p.position(ms(at)) / 1000 for at in times] == [0, 0, 5, 10, 10, 10, 15, 20, 20, 25, 30, 35]
    call.do(c.End(), 80)
    assert call.state.proctoring.position(ms(9_000)) == call.state.duration_ms == 40_000


def test_of_many_breaks_the_last_ones_are_remembered_and_no_time_is_lost() -> None:
    call = Proctored(text_question_timer=900).started()
    for n in range(MAX_STRETCHES + 20):
        call.do(c.Pause(), 2 * n + 1)
        call.do(c.Resume(), 2 * n + 2)
    p = call.state.proctoring
    assert len(p.stretches) == MAX_STRETCHES
    until = 2 * (MAX_STRETCHES + 20)
    assert [p.position(ms(until - back)) / 1000 for back in (0, 1, 2, 3)] == [
        until / 2,
        until / 2,
        until / 2 - 1,
        until / 2 - 1,
    ]
    assert p.position(ms(0)) == p.stretches[0][2], "what is longer ago is at the first that is remembered"


def test_what_happens_while_paused_takes_no_time() -> None:
    call = Proctored().started()
    call.do(c.Pause(), 20)
    call.sees(30, seen("tab_hidden", 30, "began"))
    call.sees(50, seen("tab_hidden", 50, "ended"), seen("noise", 25, duration_ms=20_000))
    assert call.tally("tab_hidden") == (1, 0) and call.tally("noise") == (1, 0)


def test_the_time_for_which_a_session_is_parked_is_not_part_of_an_interval() -> None:
    call = Proctored().started()
    call.sees(10, seen("tab_hidden", 10, "began"))
    call.do(c.Park("no place", ms(20)), 20)
    call.do(c.Activate("actor-2", "n", "retry", retry=True), 100)
    call.sees(110, seen("tab_hidden", 110, "ended"))
    assert call.tally("tab_hidden") == (1, 20)


def test_the_end_closes_what_lasts() -> None:
    call = Proctored().started()
    call.sees(10, seen("tab_hidden", 10, "began"), seen("face_absent", 5, "began", "frames"))
    call.do(c.End(), 40)
    assert not call.state.proctoring.open
    assert call.tally("tab_hidden") == (1, 30) and call.tally("face_absent") == (1, 0), "no still stands for more"
    assert call.the("tab_hidden").until == ms(40) and call.the("face_absent").until == ms(5)


@pytest.mark.parametrize(
    ("end", "lasted"), [(20, 15), (31.5, 26.5), (31.6, 26.5), (400, 26.5)], ids=["within", "just", "beyond", "long"]
)
def test_what_stills_show_lasts_for_as_long_as_they_stand_for(end: float, lasted: float) -> None:
    call = Proctored(text_question_timer=900).started()
    call.sees(5, seen("tab_hidden", 5, "began"))
    call.stills(15, [5, 15], seen("face_absent", 5, "began", "frames"))
    (hidden, absent), p = call.state.proctoring.open, call.state.proctoring
    assert (p.lasts_until(hidden, ms(end)), p.lasts_until(absent, ms(end))) == (ms(end), ms(5 + lasted))
    line = call.line(end)
    assert {one.kind: one.ms / 1000 for one in line.seen} == {"tab_hidden": end - 5, "face_absent": lasted}
    call.do(c.End(), end)
    assert call.tally("tab_hidden") == (1, end - 5) and call.tally("face_absent") == (1, lasted)
    assert call.the("face_absent").until == ms(5 + lasted)
    (at_end,) = call.state.proctoring.open_at_end
    assert at_end == replace(absent, counted=round(lasted * 1000)) and isinstance(at_end, Open)
    call.stills(end + 60, [end], seen("face_absent", end - 1, "ended", "frames"), late=1)
    assert call.tally("face_absent") == (1, end - 6), "stills that are looked at late say how long it was"
    assert call.the("face_absent").ms == round((end - 6) * 1000)


def test_stills_that_go_on_let_it_last() -> None:
    call = Proctored().started()
    call.stills(15, [10, 15], seen("face_absent", 10, "began", "frames"))
    call.stills(30, [30])
    assert call.the("face_absent", 40).ms == 30_000 and call.the("face_absent", 60).ms == 36_500
    call.stills(31, [20], late=1)
    assert call.the("face_absent", 60).ms == 36_500, "an older one takes nothing away"


def test_the_last_answer_closes_it_too() -> None:
    call = Proctored(questions=1).started()
    call.sees(10, seen("tab_hidden", 10, "began"))
    call.do(c.Answer(0, "a"), 30)
    assert call.tally("tab_hidden") == (1, 20)


def test_a_lost_connection_is_an_interval() -> None:
    call = Proctored().started()
    call.join(0)
    call.leave(10)
    lost = call.the("network_lost", 30)
    assert (lost.source, lost.at, lost.until, lost.ms) == ("livekit", ms(10), None, 20_000)
    call.join(40, "PA_2")
    assert call.tally("network_lost") == (1, 30) and call.the("network_lost").until == ms(40)


def test_a_command_of_the_candidate_ends_a_loss_and_the_cap_does_not() -> None:
    call = Proctored().started()
    call.join(0)
    call.leave(10, credit_ms=20_000)
    assert call.do(c.Expire(), 31) == ["clock_credited"]
    assert is_open(call, "network_lost", "livekit")
    call.do(c.Consent(), 50, CANDIDATE)
    assert call.tally("network_lost") == (1, 40)


def test_a_loss_is_that_of_the_last_connection() -> None:
    call = Proctored().started()
    call.join(0)
    call.join(0, "channel-1", "channel")
    call.leave(10)
    assert not call.state.proctoring.open, "the other one is there"
    call.leave(20, connection="channel-1", source="channel")
    assert [o.at for o in call.state.proctoring.open] == [ms(20)]
    call.leave(25, connection="channel-0", source="channel")
    call.join(30, "channel-2", "channel")
    assert not call.state.proctoring.open and call.tally("network_lost") == (1, 10)


def test_a_loss_is_told_by_whoever_has_noticed_the_last_one() -> None:
    call = Proctored().started()
    call.join(0, "channel-1", "channel")
    call.leave(10, connection="channel-1", source="channel")
    assert call.the("network_lost", 20).source == "channel"
    call.join(40)
    call.leave(50)
    assert [one.source for one in call.line(55).seen] == ["channel", "livekit"]
    call.do(c.Consent(), 60, CANDIDATE)
    assert not call.state.proctoring.open and call.tally("network_lost") == (2, 40)


def test_what_the_page_says_of_its_network_is_an_interval_of_its_own() -> None:
    call = Proctored().started()
    call.join(0)
    call.sees(5, seen("network_lost", 5, "began"))
    call.leave(10)
    call.join(20, "PA_2")
    assert [o.source for o in call.state.proctoring.open] == ["page"] and call.tally("network_lost") == (2, 10)


def test_a_candidate_who_leaves_on_purpose_is_not_lost_any_more() -> None:
    call = Proctored().started()
    call.join(0)
    call.leave(10)
    call.leave(30, "client_initiated", "PA_2")
    assert call.tally("network_lost") == (1, 20)


def test_a_connection_that_another_one_has_replaced_is_no_loss() -> None:
    call = Proctored().started()
    call.join(0)
    call.join(5, "PA_2")
    call.leave(10, connection="PA_1")
    assert call.view(20)["livekit"]["connected"] and not call.state.proctoring.open


def test_only_what_lasts_through_the_start_counts_and_from_there_on() -> None:
    call = Proctored()
    call.sees(10, seen("tab_hidden", 10, "began"), seen("paste", 10), seen("noise", 1, duration_ms=5_000))
    call.sees(20, seen("tab_hidden", 20, "ended"), seen("fullscreen_left", 15, "began"))
    call.started(100)
    assert call.state.proctoring.tallies == (Tally("fullscreen_left", 1, 0, ms(15)),)
    call.sees(130, seen("fullscreen_left", 130, "ended"))
    assert call.tally("fullscreen_left") == (1, 30)
    line = call.line(200)
    assert {one.kind: one.counts for one in line.seen} == {
        "tab_hidden": False,
        "paste": False,
        "noise": False,
        "fullscreen_left": True,
    }
    found = judged(line, policy())
    assert found.score == 98.5
    assert [p.points for p in found.points if p.kind != "fullscreen_left"] == [0, 0, 0]
    assert {p.because for p in found.points if p.points == 0} == {"it was over before the interview began"}


def test_what_was_over_before_the_start_counts_nothing_even_if_it_is_told_late() -> None:
    call = Proctored().started(100)
    call.sees(101, seen("paste", 90), seen("tab_hidden", 20, "began"), seen("tab_hidden", 30, "ended"))
    assert judged(call.line(200), policy()).score == 100


def test_what_was_before_the_start_does_not_hide_what_was_after_it() -> None:
    call = Proctored().started(100)
    call.sees(102, seen("paste", 90), seen("paste", 101))
    assert call.tally("paste") == (1, 0)


# Stills


def test_a_batch_of_stills_is_noted_once() -> None:
    call = Proctored().started()
    stills = c.NoteFrames(
        "batch-a",
        (ms(15), ms(30)),
        (seen("face_absent", 15, "began", "frames"),),
        late=1,
        dropped=2,
        unreadable=3,
        kept=({"id": "st1", "at": ms(15), "sha256": "ab", "because": "it shows face_absent", "verdict": "x"},),
        thinned=("st0",),
    )
    version = call.state.version
    assert call.do(stills, 31) == ["frames", "proctoring_event", "evidence_kept", "evidence_thinned"]
    assert call.do(stills, 32) == []
    p = call.state.proctoring
    assert (p.batches, p.stills_checked, p.stills_late, p.stills_dropped, p.stills_unreadable) == (
        *(("batch-a",), 2, 1),
        *(2, 3),
    )
    assert call.tally("face_absent") == (1, 0) and call.state.version == version, "the score comes with the end"
    assert call.stills(50, [45]) == ["frames"] and call.state.version == version, "nobody sees stills"


def test_so_many_batches_are_remembered_whatever_the_order_in_which_they_come() -> None:
    call = Proctored().started()
    for n in range(MAX_BATCHES + 1):
        assert call.do(c.NoteFrames(f"b{n}", (ms(90 - n),)), 100) == ["frames"]
    assert call.state.proctoring.batches == tuple(f"b{n}" for n in range(1, MAX_BATCHES + 1))
    for n in range(1, MAX_BATCHES + 1):
        assert call.do(c.NoteFrames(f"b{n}", (ms(90 - n),)), 100) == []
    assert call.state.proctoring.stills_checked == MAX_BATCHES + 1


def test_stills_that_could_not_be_read_are_a_batch_too() -> None:
    call = Proctored().started()
    assert call.do(c.NoteFrames("b1", (), unreadable=1), 16) == ["frames"]
    assert call.line(20).coverage.camera == 0


def test_stills_are_looked_at_after_the_end_with_the_times_at_which_they_were_taken() -> None:
    call = Proctored().started()
    call.stills(15, [15])
    call.do(c.End(), 100)
    late = [seen("face_absent", 30, "began", "frames"), seen("face_absent", 75, "ended", "frames")]
    call.stills(300, [30, 45, 60, 75, 90], *late, late=5)
    assert call.tally("face_absent") == (1, 45)
    assert (call.the("face_absent").at, call.the("face_absent").until) == (ms(30), ms(75))
    assert call.line(300).coverage.camera == 1
    assert "5 stills were looked at late" in call.line(300).coverage.because


def test_what_began_before_a_break_and_is_told_after_it_counts_without_it() -> None:
    call = Proctored().started()
    call.do(c.Pause(), 50)
    call.do(c.Resume(), 80)
    call.stills(95, [], seen("face_absent", 40, "began", "frames"), seen("face_absent", 90, "ended", "frames"))
    assert call.tally("face_absent") == (1, 20), "40 to 50, and 80 to 90"


def test_what_the_end_has_closed_is_not_counted_again_by_late_stills() -> None:
    call = Proctored().started()
    call.stills(15, [10, 15], seen("face_absent", 10, "began", "frames"))
    call.do(c.End(), 60)
    edges: list[tuple[float, Phase]] = [(20, "ended"), (40, "began"), (60, "ended")]
    call.stills(90, [20, 40, 60], *(seen("face_absent", at, phase, "frames") for at, phase in edges), late=3)
    assert call.tally("face_absent") == (2, 30)


def test_a_late_end_keeps_what_it_tells() -> None:
    call = Proctored().started()
    call.stills(15, [10, 15], seen("face_absent", 10, "began", "frames"))
    call.do(c.End(), 60)
    call.stills(90, [20], seen("face_absent", 20, "ended", "frames", detail={"back": 1}))
    assert call.the("face_absent").ms == 10_000 and call.the("face_absent").until == ms(20)
    assert call.the("face_absent").detail == {"back": 1}


# Hooks and activations


def crash(call: Proctored, at: float, cause: str = "crash") -> list[str]:
    return call.do(c.Activate("actor", "node", cause), at)


def test_after_two_losses_the_hooks_are_suspended() -> None:
    call = Proctored().started()
    assert crash(call, 100) == ["activated"] and not call.state.proctoring.hooks_off
    call.do(c.Extend(100, "x"), 150)
    events = decide(call.state, c.Activate("a", "n", "hung"), STAFF, ms(200))
    assert events[-1] == {"type": "hooks_suspended", "losses": 2}
    call.write(events, ms(200))
    assert call.state.proctoring.hooks_off and call.view(200)["proctoring"]["hooks_suspended"]
    assert crash(call, 300) == ["activated"], "they are suspended once"
    assert [n["type"] for n in call.line(400).notes] == ["hooks_suspended"]


@pytest.mark.parametrize("cause", ["start", "released", "recovered", "retry"])
def test_other_activations_are_no_losses(cause: str) -> None:
    call = Proctored().started()
    crash(call, 100)
    for at in (200, 300, 400):
        assert crash(call, at, cause) == ["activated"]
    assert call.state.proctoring.losses == 1 and not call.state.proctoring.hooks_off


def test_that_hooks_are_suspended_does_not_keep_a_session_from_being_parked() -> None:
    call = Proctored().started()
    assert crash(call, 1) == ["activated"]
    assert crash(call, 2) == ["activated", "hooks_suspended"]
    assert call.state.fruitless_activations == MAX_FRUITLESS_ACTIVATIONS
    assert crash(call, 3) == ["parked"]


@pytest.mark.parametrize("event", [{"type": "hooks_suspended", "losses": 2}, {"type": "erased", "what": "reference"}])
def test_what_changes_the_view_changes_the_version(event: Event) -> None:
    call = Proctored().started()
    call.do(c.NoteReference("ab", "lbp", "1"), 5)
    before, view = call.state.version, call.view(5)
    call.write([event | {"because": "x"}], ms(6))
    assert call.view(6)["proctoring"] != view["proctoring"] and call.state.version > before


def test_a_hook_that_fails_is_noted() -> None:
    call = Proctored().started()
    version = call.state.version
    assert call.do(c.NoteHookFailure("pasted_unread", "TimeoutError", off=True), 5) == ["hook_failed"]
    call.do(c.End(), 6)
    assert call.do(c.NoteHookFailure("other", "ValueError", off=False), 7) == ["hook_failed"]
    first, second = call.line(8).notes
    assert (first["hook"], first["reason"], first["off"], first["at"]) == (
        *("pasted_unread", "TimeoutError", True),
        ms(5),
    )
    assert second["off"] is False and call.state.version == version + 1, "clients see the end only"


# Reference and pictures


REFERENCE = c.NoteReference("ab" * 32, "lbp", "1", {"sharpness": 12.5})


def test_a_reference_counts_as_consent_where_none_was_given() -> None:
    call = Proctored()
    assert call.do(REFERENCE, 5) == ["consent_given", "reference_captured"]
    assert call.view(5)["consent_at"] == call.view(5)["proctoring"]["reference_captured_at"] is not None
    assert call.state.proctoring.reference_sha256 == "ab" * 32
    call.started(10)
    assert call.do(REFERENCE, 20) == ["reference_captured"]
    assert call.state.proctoring.reference_at == ms(20) and call.state.consent_at == ms(5)


def test_a_reference_with_consent_adds_none() -> None:
    call = Proctored()
    call.do(c.Consent("privacy-1"), 1, CANDIDATE)
    assert call.do(REFERENCE, 5) == ["reference_captured"]


def test_no_reference_after_the_end_or_for_the_exempt() -> None:
    call = Proctored(accommodations=EXEMPT)
    with pytest.raises(StateConflict, match="exempt") as caught:
        call.do(REFERENCE, 5)
    assert caught.value.fields == {
        "current_status": "initialized",
        "allowed_actions": [*ALLOWED["initialized"]],
    }
    call = Proctored().started()
    call.do(c.End(), 5)
    with pytest.raises(StateConflict, match="ended"):
        call.do(REFERENCE, 6)


def test_pictures_wait_for_consent_where_it_is_asked_for() -> None:
    call = Proctored()
    check_pictures(call.state)
    with pytest.raises(StateConflict, match="agree") as caught:
        check_pictures(call.state, "privacy-1")
    assert "consent" in allowed_actions(call.state) == caught.value.fields["allowed_actions"]
    call.do(c.Consent("privacy-1"), 1, CANDIDATE)
    check_pictures(call.state, "privacy-1")


def test_an_erased_reference_is_gone_and_that_it_was_there_stays() -> None:
    call = Proctored()
    assert call.do(c.NoteErased("reference", "retention"), 1) == [], "there is none"
    call.do(REFERENCE, 5)
    assert call.do(c.NoteErased("reference", "asked for"), 9) == ["erased"]
    assert call.state.proctoring.reference_at is None and call.state.proctoring.reference_sha256 is None
    assert call.do(c.NoteErased("reference", "asked for"), 9) == []
    captured, gone = call.line(10).notes
    assert (captured["type"], captured["sha256"], captured["at"]) == ("reference_captured", "ab" * 32, ms(5))
    assert (gone["type"], gone["what"], gone["because"]) == ("erased", "reference", "asked for")
    assert call.state.consent_at == ms(5), "consent goes only with those who take it back"
    assert "reference_captured" in [e["type"] for e in event_views(call.entries)]


def test_pictures_need_consent_to_the_policy_that_holds() -> None:
    call = Proctored()
    assert call.do(c.Consent("privacy-1"), 1, CANDIDATE) == ["consent_given"]
    assert (call.state.consent_at, call.state.consent_policy) == (ms(1), "privacy-1")
    for again in (c.Consent("privacy-1"), c.Consent()):
        assert call.do(again, 2, CANDIDATE) == []
    check_pictures(call.state)
    with pytest.raises(StateConflict, match="agree") as caught:
        check_pictures(call.state, "privacy-2")
    assert "consent" in allowed_actions(call.state) == caught.value.fields["allowed_actions"]
    assert call.do(c.Consent("privacy-2"), 3, CANDIDATE) == ["consent_given"]
    assert (call.state.consent_at, call.state.consent_policy) == (ms(3), "privacy-2")
    check_pictures(call.state, "privacy-2")


def test_consent_that_came_with_a_picture_is_to_no_policy() -> None:
    call = Proctored()
    call.do(REFERENCE, 5)
    assert call.state.consent_policy is None
    with pytest.raises(StateConflict, match="agree"):
        check_pictures(call.state, "privacy-1")
    assert call.do(c.Consent("privacy-1"), 6, CANDIDATE) == ["consent_given"]
    check_pictures(call.state, "privacy-1")


@pytest.mark.parametrize("what", ["reference", "stills"])
def test_whoever_withdraws_consent_is_asked_again(what: Literal["reference", "stills"]) -> None:
    call = Proctored()
    call.do(c.Consent("privacy-1"), 1, CANDIDATE)
    assert call.do(c.NoteErased(what, WITHDRAWN), 2, CANDIDATE) == ["erased"], "with or without a picture"
    assert call.state.consent_at is None and call.state.consent_policy is None
    assert call.view(2)["consent_at"] is None
    with pytest.raises(StateConflict, match="withdrawn consent"):
        check_pictures(call.state, "privacy-1")
    assert call.do(c.Consent("privacy-1"), 3, CANDIDATE) == ["consent_given"]
    check_pictures(call.state, "privacy-1")


def test_consent_that_is_not_there_is_not_withdrawn_again() -> None:
    call = Proctored()
    assert call.do(c.NoteErased("reference", WITHDRAWN), 1, CANDIDATE) == []
    call.do(REFERENCE, 5)
    assert call.do(c.NoteErased("reference", WITHDRAWN), 6, CANDIDATE) == ["erased"]
    assert call.state.proctoring.reference_at is None and call.state.consent_at is None
    assert call.do(c.NoteErased("reference", WITHDRAWN), 7, CANDIDATE) == []


def test_a_candidate_replaces_no_reference_once_the_interview_has_begun() -> None:
    call = Proctored()
    for at in (1, 2):
        assert "reference_captured" in call.do(REFERENCE, at, CANDIDATE), "until then they can"
    call.started(5)
    with pytest.raises(StateConflict, match="replaced") as caught:
        call.do(REFERENCE, 6, CANDIDATE)
    assert caught.value.fields == {
        "current_status": "in_progress",
        "allowed_actions": [*ALLOWED["in_progress"]],
    }
    with pytest.raises(StateConflict, match="replaced"):
        check_replacement(call.state, CANDIDATE)
    assert call.state.proctoring.reference_at == ms(2)
    check_replacement(call.state, STAFF)
    assert call.do(c.NoteReference("cd" * 32, "lbp", "1"), 7, STAFF) == ["reference_captured"]
    assert [n["sha256"] for n in call.line(8).notes] == ["ab" * 32, "ab" * 32, "cd" * 32]


def test_a_first_reference_may_come_after_the_start() -> None:
    call = Proctored().started()
    check_replacement(call.state, CANDIDATE)
    assert "reference_captured" in call.do(REFERENCE, 6, CANDIDATE)


def test_a_withdrawal_is_no_way_to_replace_a_reference() -> None:
    call = Proctored()
    call.do(REFERENCE, 1, CANDIDATE)
    call.started(5)
    call.stills(20, [15])
    call.do(c.NoteErased("reference", WITHDRAWN), 30, CANDIDATE)
    call.do(c.Consent(), 30, CANDIDATE)
    with pytest.raises(StateConflict, match="replaced"):
        call.do(c.NoteReference("cd" * 32, "lbp", "1"), 31, CANDIDATE)


def test_evidence_stays_in_the_timeline_with_why_it_is_gone() -> None:
    call = Proctored().started()
    kept = tuple({"id": f"st{n}", "at": ms(n), "sha256": "ab", "because": "x", "verdict": "ok"} for n in range(1, 4))
    call.do(c.NoteFrames("b1", (ms(1), ms(2), ms(3)), kept=kept), 4)
    call.do(c.NoteFrames("b2", (ms(5),), thinned=("st1",)), 6)
    assert call.do(c.NoteErased("stills", "retention", ("st3",)), 7) == ["erased"]
    assert [(e["id"], e["gone"]) for e in call.line(8).evidence] == [
        ("st1", "cap"),
        ("st2", None),
        ("st3", "retention"),
    ]


# What people say


def test_a_dispute_stands_beside_the_event() -> None:
    call = Proctored().started()
    call.sees(5, seen("paste", 5))
    number = call.state.seq
    before = judged(call.line(9), policy())
    version = call.state.version
    assert call.do(c.Dispute(number, "it was my own text"), 6, CANDIDATE) == ["event_disputed"]
    (dispute,) = call.line(9).disputes
    assert (dispute["of"], dispute["statement"], dispute["at"]) == (number, "it was my own text", ms(6))
    assert judged(call.line(9), policy()) == before and call.state.version == version
    call.do(c.End(), 10)
    assert call.do(c.Dispute(number, "after the end, too"), 20, CANDIDATE) == ["event_disputed"]


@pytest.mark.parametrize("number", [0, -1, 1_000])
def test_what_is_not_there_cannot_be_disputed(number: int) -> None:
    with pytest.raises(InvalidInput, match=str(number)):
        Proctored().started().do(c.Dispute(number, "x"), 5, CANDIDATE)


def test_a_dispute_is_no_sign_that_the_candidate_is_back() -> None:
    call = Proctored().started()
    call.join(0)
    call.leave(10)
    assert call.do(c.Dispute(1, "x"), 20, CANDIDATE) == ["event_disputed"]


def test_disputes_are_bounded() -> None:
    from orchestrator.interview.proctoring import MAX_DISPUTES

    call = Proctored().started()
    for _ in range(MAX_DISPUTES):
        call.do(c.Dispute(1, "x"), 5, CANDIDATE)
    with pytest.raises(OrchestratorError):
        call.do(c.Dispute(1, "x"), 5, CANDIDATE)


def test_the_last_verdict_holds_and_says_who_gave_it() -> None:
    call = Proctored().started()
    call.sees(5, seen("paste", 5))
    before = judged(call.line(30), policy())
    assert call.line(30).verdict is None
    call.do(c.GiveVerdict("escalated", "look again"), 10)
    call.do(c.End(), 15)
    call.do(c.GiveVerdict("cleared", "looked again"), 20)
    verdict = call.line(30).verdict
    assert verdict is not None
    assert (verdict["verdict"], verdict["reason"], verdict["at"], verdict["by"]) == (
        *("cleared", "looked again"),
        *(ms(20), "somebody"),
    )
    assert call.state.proctoring.verdict == "cleared" and judged(call.line(30), policy()).points == before.points


# Whatever comes


KINDS = ("tab_hidden", "paste", "face_absent", "network_lost", "custom:a", "custom:b")
sources: st.SearchStrategy[Source] = st.sampled_from(["page", "frames", "hook", "staff"])
phases: st.SearchStrategy[Phase | None] = st.sampled_from([None, "began", "ended"])
sighting = st.tuples(
    *(st.sampled_from(KINDS), sources, st.integers(-100_000, 5_000), phases),
    *(st.none() | st.integers(0, 90_000), st.integers(1, 4), st.none() | st.integers(0, 9)),
)
move = st.one_of(
    st.tuples(st.just("see"), st.lists(sighting, max_size=8)),
    st.tuples(st.just("see"), st.lists(sighting, max_size=8)),
    st.tuples(st.just("stills"), st.lists(sighting, max_size=3)),
    st.tuples(
        st.sampled_from(["pause", "resume", "answer", "start", "park", "retry", "join", "leave", "crash", "end"]),
        st.just([]),
    ),
)
lives = st.lists(st.tuples(st.integers(0, 60), move), max_size=25)
Told = tuple[str, Source, int, Phase | None, int | None, int, int | None]
Life = list[tuple[int, tuple[str, list[Told]]]]


def live(life: Life) -> Proctored:
    call, now = Proctored(room=LIVE, questions=4), 0.0
    taken = 0.0
    for n, (later, (what, told)) in enumerate(life):
        now += later
        news = tuple(
            Sighting(kind, source, ms(now) + offset, phase, duration, count, {} if size is None else {"size": size})
            for kind, source, offset, phase, duration, count, size in told
        )
        try:
            if what == "see":
                call.do(c.NoteSightings((), ((f"key-{n}", "hash", news),)), now, CANDIDATE)
            elif what == "stills":
                call.stills(now, [taken + (now - taken) * part for part in (0.4, 0.7, 1)], *news)
                taken = now
            elif what == "join":
                call.join(now, f"PA_{n}")
            elif what == "leave" and call.state.presence.here:
                call.leave(now, connection=call.state.presence.here[0][1])
            elif what == "start" and call.state.status == "initialized":
                call.started(now)
            elif what in ("crash", "retry"):
                call.do(c.Activate("a", "n", what, retry=what == "retry"), now)
            else:
                commands: dict[str, c.Command] = {
                    "pause": c.Pause(),
                    "resume": c.Resume(),
                    "answer": c.Answer(len(call.state.answers), "a"),
                    "park": c.Park("x", ms(now)),
                    "end": c.End(),
                }
                if what in commands:
                    call.do(commands[what], now)
        except OrchestratorError:
            continue
        assert load_state(dump_state(call.state)) == call.state
        lost = any(is_open(call, "network_lost", source) for source in ("livekit", "channel"))
        assert lost == (call.state.presence.lost and call.state.status != "completed")
    return call


@settings(max_examples=200, deadline=None)
@given(lives, st.booleans())
def test_the_state_and_the_timeline_agree(life: Life, start_first: bool) -> None:
    call = live([(0, ("start", [])), *life] if start_first else life)
    until = 25 * 60
    line = call.line(until)
    cover = line.coverage
    shares = [cover.camera, cover.page, cover.video, cover.confidence]
    assert all(share is None or 0 <= share <= 1 for share in shares)
    assert fold_all(None, call.entries) == call.state == line.state, "whether or not it is all told"
    assert {o.id for o in call.state.proctoring.open} == {one.id for one in line.seen if one.lasts and not one.until}
    sums: dict[str, list[int]] = {}
    for one in line.seen:
        if one.counts:
            total = sums.setdefault(one.kind, [0, 0])
            total[0] += one.count
            total[1] += one.ms if one.until is not None or not one.lasts else 0
    assert {t.kind: [t.count, t.ms] for t in call.state.proctoring.tallies} == sums
    for sensitivity, exempt in product((None, "low", "high"), (False, True)):
        accommodations = c.Accommodations(sensitivity=sensitivity, camera_exempt=exempt)
        asked = replace(line, state=replace(line.state, accommodations=accommodations))
        found = judged(asked, policy())
        assert found.score == round(max(0, 100 - sum(p.points for p in found.points)), 2)
        assert all(p.points >= 0 for p in found.points)
        if not call.state.proctoring.open:
            assert score_of(asked.state, policy()) == found.score
        elif call.state.proctoring.running:
            assert score_of(asked.state, policy()) >= found.score


edges = st.tuples(st.sampled_from(KINDS[:3]), sources, st.sampled_from(["began", "ended"]), st.integers(0, 20_000))
in_turn = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from(["see", "see", "stills", "pause", "resume"]), st.lists(edges)),
    max_size=25,
)


@settings(max_examples=200, deadline=None)
@given(in_turn)
def test_what_is_told_in_turn_lasts_no_longer_than_the_interview_and_never_twice_at_once(
    life: list[tuple[int, str, list[tuple[str, Source, Phase, int]]]],
) -> None:
    call, now, told_until = Proctored().started(), 0, T0
    for later, what, told in life:
        now += later
        news: list[Sighting] = []
        for kind, source, phase, gap in told if what in ("see", "stills") else ():
            told_until = min(ms(now), told_until + gap)
            news.append(Sighting(kind, source, told_until, phase))
        if what == "see":
            call.sees(now, *news)
        elif what == "stills":
            call.stills(now, [now], *news)
        elif call.state.paused == (what == "resume"):
            call.do(c.Pause() if what == "pause" else c.Resume(), now)
    call.do(c.End(), now)
    watched = call.state.proctoring.position(ms(now))
    assert watched == call.state.duration_ms
    intervals: dict[tuple[str, str], list[Seen]] = {}
    for one in call.line(now + 500).seen:
        intervals.setdefault((one.kind, one.source), []).append(one)
    for of_one in intervals.values():
        assert all(0 <= one.ms <= watched for one in of_one) and sum(one.ms for one in of_one) <= watched
        for before, after in pairwise(of_one):
            assert before.until is not None and before.until <= after.at


def test_the_whole_state_of_proctoring_survives_a_snapshot() -> None:
    call = Proctored(room=LIVE).started()
    call.join(1)
    call.sees(5, seen("paste", 5), seen("tab_hidden", 5, "began"), seen("face_absent", 5, "began", "frames"))
    call.stills(15, [15], late=1, dropped=1, unreadable=1)
    call.do(REFERENCE, 20)
    call.do(c.NoteSightings((), (("key", "hash", (seen("paste", 20),)),)), 20, CANDIDATE)
    call.stills(21, [20])
    call.do(c.GiveVerdict("unavailable", "x"), 21)
    call.do(c.Dispute(1, "x"), 22, CANDIDATE)
    crash(call, 30)
    crash(call, 40)
    untouched = set(asdict(Proctoring())) - {"frame_seconds"}
    for at in (50, 60):
        proctoring, defaults = asdict(call.state.proctoring), asdict(Proctoring())
        untouched -= {name for name, value in proctoring.items() if value != defaults[name]}
        assert load_state(dump_state(call.state)) == call.state
        call.do(c.End(), at)
    assert call.state.proctoring.open_at_end[0].counted and not untouched
