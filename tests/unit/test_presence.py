"""The candidate's connections: when the clock stands still for one that is lost, and what the journal says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import NotFound, StateConflict
from orchestrator.interview import commands as c
from orchestrator.interview.decide import decide
from orchestrator.interview.entry import new_entry
from orchestrator.interview.fold import fold
from orchestrator.interview.presence import MAX_STOPS, NOT_THE_CANDIDATES_DOING, credit_left_ms
from orchestrator.interview.snapshot import Draft
from orchestrator.interview.state import MAX_NOTED, State, dump_state, load_state, snapshot_of
from orchestrator.interview.view import event_views
from orchestrator.session import DraftSaved, Reply, Request, Session
from tests.unit.test_interview_actor import World
from tests.unit.test_interview_rules import Interview
from tests.unit.test_session_log import held
from tests.unit.virtual import run_virtual
from tests.unit.world import CANDIDATE, STAFF, T0, MemoryJournal, first_entry, new_session

CAP = 180_000
LIVEKIT = c.Caller("livekit", "system")
HERE = c.NoteConnected("PA_1")
STOPPED = ["connection_lost", "clock_stopped"]


class Call(Interview):
    """An interview whose candidate comes and goes."""

    def started(self, at: float = 0) -> Call:
        super().started(at)
        return self

    def join(self, at: float, connection: str = "PA_1", source: c.Source = "livekit") -> list[str]:
        return self.do(c.NoteConnected(connection, source), at, LIVEKIT)

    def leave(
        self,
        at: float,
        reason: str = "signal_close",
        connection: str = "PA_1",
        *,
        since: float | None = None,
        source: c.Source = "livekit",
        credit_ms: int = CAP,
        draft: Draft | None = None,
    ) -> list[str]:
        """News at `at` that a connection has ended, at `since` if that was earlier."""
        ended = T0 + round((at if since is None else since) * 1000)
        return self.do(c.NoteDisconnected(connection, reason, ended, credit_ms, source), at, LIVEKIT, draft)

    def lost(self, joined_at: float = 0, at: float = 10) -> Call:
        """In progress, with the clock standing still since `at`."""
        self.started()
        self.join(joined_at)
        assert self.leave(at) == STOPPED
        return self

    def remaining(self, at: float) -> float:
        return self.view(at)["current_question"]["remaining_seconds"]

    def ledger(self) -> list[tuple[str, float]]:
        return [(line["cause"], line["seconds"]) for line in self.view(0)["clock"]["ledger"]]

    def elapsed(self) -> list[float]:
        return [a["elapsed_seconds"] for a in self.view(0)["answers"]]


def draft_at(at: float, text: str = "so far") -> Draft:
    return Draft("s1", 0, 1, 1, text, T0 + round(at * 1000))


# What a stop looks like, and what ends it


def test_while_a_connection_is_lost_the_clock_stands_still() -> None:
    call = Call().lost(at=10)
    for at in (10, 50, 190):
        view = call.view(at)
        assert view["status"] == "in_progress" and view["status_detail"] == "connection_lost"
        assert view["current_question"]["deadline"] is None
        assert view["current_question"]["remaining_seconds"] == 110
        assert not view["livekit"]["connected"]
    assert call.ledger() == [], "it is credited once it is over"
    assert call.state.due_at == T0 + 190_000
    assert call.remaining(200) == 100, "beyond the cap it is only a matter of the timer"


def test_the_candidate_who_is_back_finds_the_time_that_was_left() -> None:
    call = Call().lost(at=10)
    assert call.join(40, "PA_2") == ["participant_joined", "clock_credited"]
    view = call.view(40)
    assert view["status_detail"] == "question_open" and view["livekit"]["connected"]
    assert view["current_question"]["remaining_seconds"] == 110
    assert call.state.deadline == T0 + 150_000
    assert view["clock"]["ledger"] == [{"seconds": 30.0, "cause": "network", "at": "2023-11-14T22:14:00.000Z"}]


@pytest.mark.parametrize(
    ("command", "caller", "types"),
    [
        (c.Answer(0, "a"), CANDIDATE, ["clock_credited", "question_closed", "question_opened"]),
        (c.Answer(0, "a"), STAFF, ["clock_credited", "question_closed", "question_opened"]),
        (c.Consent(), CANDIDATE, ["clock_credited", "consent_given"]),
        (c.Start(), CANDIDATE, ["clock_credited"]),
        (c.End(), CANDIDATE, ["clock_credited", "completed"]),
        (c.End(), STAFF, ["clock_credited", "completed"]),
    ],
)
def test_any_command_of_the_candidate_ends_the_stop(command: c.Command, caller: c.Caller, types: list[str]) -> None:
    call = Call().lost(at=10)
    assert call.do(command, 40, caller) == types
    assert call.ledger() == [("network", 30)]
    assert not call.state.presence.lost


@pytest.mark.parametrize("command", [c.NewLink(), c.Extend(30, "x"), c.Deactivate("drain"), c.Abandon(1), c.Expire()])
def test_what_others_do_does_not(command: c.Command) -> None:
    call = Call().lost(at=10)
    call.do(command, 40)
    assert call.state.open is not None and call.state.open.lost_at == T0 + 10_000
    assert call.ledger() == ([("extended", 30)] if isinstance(command, c.Extend) else [])


def test_a_command_that_is_refused_changes_nothing() -> None:
    call = Call().lost(at=10)
    with pytest.raises(StateConflict):
        call.do(c.Answer(1, "x"), 40, CANDIDATE)
    assert call.view(40)["status_detail"] == "connection_lost"


def test_an_answer_counts_the_time_without_the_stop() -> None:
    call = Call().lost(at=10)
    call.do(c.Answer(0, "a"), 100, CANDIDATE)
    assert call.elapsed() == [10] and call.ledger() == [("network", 90)]
    assert call.remaining(100) == 300, "the next question has all its time"


def test_ending_counts_the_time_without_the_stop_and_keeps_the_draft() -> None:
    call = Call().lost(at=10)
    assert call.do(c.End(), 100, STAFF, draft_at(5)) == ["clock_credited", "question_closed", "completed"]
    assert call.elapsed() == [10]


def test_an_extension_during_a_stop_is_added_to_what_is_left() -> None:
    call = Call().lost(at=10)
    call.do(c.Extend(30, "x"), 50)
    assert call.remaining(60) == 140
    call.join(70, "PA_2")
    assert call.remaining(70) == 140 and sorted(call.ledger()) == [("extended", 30), ("network", 60)]


def test_a_stop_is_seen_in_the_snapshot() -> None:
    call = Call().lost(at=10)
    snapshot = snapshot_of(call.state)
    assert snapshot.status_detail == "connection_lost" and snapshot.unseen_since is None
    assert snapshot.deadline is not None and snapshot.deadline <= T0 + 190_000
    assert load_state(snapshot.state) == call.state


# The cap


def test_at_the_cap_the_clock_goes_on_without_the_candidate() -> None:
    call = Call().lost(at=10)
    assert call.do(c.Expire(), 190) == []
    assert call.do(c.Expire(), 190.001) == ["clock_credited"]
    assert call.ledger() == [("network", 180)]
    view = call.view(190.001)
    assert view["status_detail"] == "question_open"
    assert call.state.deadline == T0 + 300_000
    assert call.do(c.Expire(), 302) == []
    assert call.do(c.Expire(), 302.001) == ["question_closed", "question_opened"]
    assert call.elapsed() == [120]


ENDS = [(c.Expire(), c.SYSTEM), (c.NoteConnected("PA_2"), LIVEKIT), (c.Consent(), CANDIDATE)]


@pytest.mark.parametrize(("ends", "caller"), ENDS)
def test_no_more_than_the_cap_is_credited_however_late_it_is_noticed(ends: c.Command, caller: c.Caller) -> None:
    call = Call().lost(at=10)
    call.do(ends, 250, caller)
    assert call.ledger() == [("network", 180)]
    assert call.remaining(250) == 50


def test_the_cap_is_on_the_whole_interview() -> None:
    call = Call().lost(at=10)
    call.join(110, "PA_2")
    call.do(c.Answer(0, "a"), 115, CANDIDATE)
    assert call.leave(120, connection="PA_2") == STOPPED
    assert call.state.due_at == T0 + 200_000
    call.do(c.Expire(), 201)
    assert call.ledger() == [("network", 100), ("network", 80)]
    call.join(210, "PA_3")
    assert call.leave(220, connection="PA_3") == ["connection_lost"], "nothing is left"


def test_the_clock_stops_three_times_at_most() -> None:
    call = Call().started()
    call.join(0)
    for n in range(MAX_STOPS):
        assert call.leave(10 * n + 5, connection=f"PA_{n + 1}") == STOPPED
        call.join(10 * n + 6, f"PA_{n + 2}")
    assert call.leave(50, connection="PA_4") == ["connection_lost"]
    assert call.remaining(60) == 63 and call.ledger() == [("network", 1)] * 3


def test_a_cap_of_nothing_stops_nothing() -> None:
    call = Call().started()
    call.join(0)
    assert call.leave(10, credit_ms=0) == ["connection_lost"]


def test_a_stop_for_no_time_is_no_line_in_the_ledger() -> None:
    call = Call().lost(at=10)
    call.join(10, "PA_2")
    assert call.ledger() == [] and call.state.presence.stops == 1


# Which ends of connections stop the clock


@pytest.mark.parametrize("reason", sorted(NOT_THE_CANDIDATES_DOING))
def test_what_is_not_the_candidates_doing_stops_the_clock(reason: str) -> None:
    call = Call().started()
    call.join(0)
    assert call.leave(50, reason) == STOPPED
    assert call.remaining(100) == (90 if reason == "connection_timeout" else 70)


@pytest.mark.parametrize(
    "reason",
    ["client_initiated", "participant_removed", "room_deleted", "room_closed", "unknown_reason", "", "of_tomorrow"],
)
def test_what_the_candidate_or_we_have_closed_stops_nothing(reason: str) -> None:
    call = Call().started()
    call.join(0)
    assert call.leave(50, reason) == ["participant_left"]
    assert call.remaining(60) == 60 and not call.state.presence.lost


def test_a_second_device_is_noted_and_stops_nothing() -> None:
    call = Call().started()
    call.join(0)
    call.join(20, "PA_2")
    assert call.leave(20, "duplicate_identity") == ["participant_left", "proctoring_event"]
    assert call.view(30)["livekit"]["connected"] and call.remaining(30) == 90
    entry = c.NoteDisconnected("PA_2", "duplicate_identity", T0, CAP)
    event = decide(call.state, entry, LIVEKIT, T0 + 40_000)[-1]
    assert event == {"type": "proctoring_event", "event": "second_device", "source": "livekit"}


def test_no_stop_while_a_channel_is_there() -> None:
    call = Call().started()
    call.join(0)
    assert call.join(1, "channel-1", "channel") == ["channel_opened"]
    assert call.leave(10) == ["connection_lost"]
    assert call.remaining(20) == 100
    assert call.leave(30, connection="channel-1", source="channel") == ["channel_lost", "clock_stopped"]
    assert call.remaining(50) == 90
    assert call.join(60, "channel-2", "channel") == ["channel_opened", "clock_credited"]


def test_answers_go_through_the_channel_so_its_loss_stops_the_clock_even_with_video() -> None:
    call = Call().started()
    call.join(0)
    call.join(1, "channel-1", "channel")
    assert call.leave(10, connection="channel-1", source="channel") == ["channel_lost", "clock_stopped"]
    assert call.leave(15) == ["connection_lost"], "the same loss"
    assert call.join(30, "channel-2", "channel") == ["channel_opened", "clock_credited"]
    assert call.remaining(30) == 110
    assert call.state.presence.stops == 1


def test_a_newer_channel_takes_the_place_of_an_older_one() -> None:
    call = Call().started()
    call.join(0, "a:1", "channel")
    call.join(5, "b:1", "channel")
    assert call.state.presence.here == (("channel", "b:1"),) and call.state.presence.front_end == "b"
    assert call.leave(6, connection="a:1", source="channel") == ["channel_lost"]
    assert call.remaining(16) == 104 and not call.state.presence.lost
    assert call.leave(17, connection="b:1", source="channel") == ["channel_lost", "clock_stopped"]
    assert call.state.presence.front_end is None


def test_what_is_ours_stops_the_clock_as_often_as_it_happens() -> None:
    call = Call(text_question_timer=600).started()
    for time in range(0, 100, 20):
        call.join(time, f"c{time}", "channel")
        ended = ["channel_lost", "clock_stopped"]
        assert call.leave(time + 10, "server_shutdown", connection=f"c{time}", source="channel") == ended
    assert call.state.presence.stops == 0 and credit_left_ms(call.state, CAP) == CAP - 40_000
    for time in range(100, 220, 20):
        call.join(time, f"c{time}", "channel")
        call.leave(time + 10, "no_heartbeat", connection=f"c{time}", source="channel")
    assert call.state.presence.stops == MAX_STOPS
    call.join(300, "c300", "channel")
    assert credit_left_ms(call.state, CAP) == 0, "so often it has stopped"


def test_no_stop_while_another_room_connection_is_there() -> None:
    call = Call().started()
    call.join(0)
    call.join(5, "PA_2")
    assert call.leave(10, connection="PA_1") == ["connection_lost"]
    assert call.remaining(20) == 100 and call.view(20)["livekit"]["connected"]


def test_before_the_start_and_after_the_end_nothing_stops() -> None:
    call = Call()
    assert call.join(0) == ["participant_joined"]
    assert call.leave(1) == ["connection_lost"]
    call.do(c.Start(), 2, CANDIDATE)
    assert call.remaining(12) == 110
    call.do(c.End(), 20)
    assert call.join(21, "PA_2") == [] and call.leave(22, connection="PA_2") == []


def test_a_deleted_session_is_not_there() -> None:
    call = Call()
    call.do(c.Delete(), 1)
    for news in (HERE, c.NoteDisconnected("PA_1", "signal_close", T0, CAP)):
        with pytest.raises(NotFound):
            call.do(news, 2, LIVEKIT)


def test_no_stop_while_parked() -> None:
    call = Call().started()
    call.join(0)
    call.do(c.Park("x", T0 + 30_000), 31)
    assert call.leave(40) == ["connection_lost"]
    assert call.view(50)["status_detail"] == "parked"
    call.do(c.Activate("a2", "n", "retry", retry=True), 100)
    assert call.remaining(100) == 90 and call.ledger() == [("retry", 70)]


def test_no_stop_after_the_time_ran_out() -> None:
    call = Call(questions=1).started()
    call.join(0)
    assert call.leave(121) == ["connection_lost"]
    assert call.do(c.Expire(), 122.1) == ["question_closed", "completed"]


def test_a_connection_lost_in_the_last_seconds_of_a_question_stops_the_next_ones_clock() -> None:
    call = Call().started()
    call.join(0)
    assert call.leave(121) == ["connection_lost"]
    assert call.do(c.Expire(), 122.1) == ["question_closed", "question_opened", "clock_stopped"]
    assert call.view(140)["status_detail"] == "connection_lost"
    assert call.join(160, "PA_2") == ["participant_joined", "clock_credited"]
    assert call.remaining(160) == 300 and call.ledger() == [("network", 37.9)]
    assert call.state.presence.stops == 1


def test_a_loss_whose_cap_is_used_up_does_not_stop_the_next_ones_clock() -> None:
    call = Call().started()
    call.join(0)
    assert call.leave(10, credit_ms=20_000) == STOPPED
    assert call.do(c.Expire(), 30.1) == ["clock_credited"]
    assert call.do(c.Expire(), 142.1) == ["question_closed", "question_opened"]
    assert call.remaining(152.1) == 290


def test_being_there_is_a_sign_of_the_candidate() -> None:
    call = Call().started()
    call.join(5)
    assert call.state.unseen_since is None
    early = Call()
    early.join(0)
    early.started(1)
    assert early.state.unseen_since is None
    gone = Call()
    gone.join(0)
    gone.leave(0.5, "client_initiated")
    gone.started(1)
    assert gone.state.unseen_since == T0 + 1_000


def test_what_a_lost_candidate_does_before_the_start_is_no_sign_of_them_after_it() -> None:
    for connections in (0, 1):
        call = Call()
        for _ in range(connections):
            call.join(0)
            call.leave(1)
        call.do(c.Consent(), 2, CANDIDATE)
        call.started(5)
        assert call.state.unseen_since == T0 + 5_000, connections


# News that come late, twice, or in another order


def test_a_connection_that_was_seen_to_leave_before_it_was_seen_to_join() -> None:
    call = Call().started()
    assert call.leave(10) == STOPPED
    assert call.join(11) == [], "the old news is not that the candidate is back"
    assert call.view(12)["status_detail"] == "connection_lost" and call.remaining(12) == 110
    assert call.join(20, "PA_2") == ["participant_joined", "clock_credited"]


def test_a_connection_that_was_closed_before_it_was_seen_to_join() -> None:
    call = Call().started()
    assert call.leave(10, "client_initiated") == ["participant_left"]
    assert call.join(11) == [] and not call.view(12)["livekit"]["connected"]


def test_the_same_news_again_changes_nothing() -> None:
    call = Call().started()
    assert call.join(0) == ["participant_joined"] and call.join(5) == []
    assert call.leave(10) == STOPPED and call.leave(11) == []
    assert call.leave(12, "client_initiated") == [] and call.join(13) == []
    assert call.remaining(20) == 110
    call.join(20, "PA_2")
    before = call.state
    assert call.join(21) == [] and call.leave(22) == [] and call.join(23, "PA_2") == []
    assert call.state == before


def test_the_identity_joins_again_before_the_old_connection_is_given_up() -> None:
    call = Call().started()
    call.join(0)
    call.join(30, "PA_2")
    assert call.leave(31, "connection_timeout") == ["connection_lost"]
    assert call.join(32) == [], "it is gone for good"
    assert call.view(33)["livekit"]["connected"] and call.remaining(33) == 87
    assert call.leave(40, connection="PA_2") == STOPPED


def test_an_old_connections_end_does_not_hide_that_the_candidate_is_lost() -> None:
    call = Call().started()
    call.join(0)
    call.join(17, "PA_2")
    assert call.leave(20, connection="PA_2") == STOPPED
    call.leave(21, "duplicate_identity", "PA_1")
    assert call.view(22)["status_detail"] == "connection_lost"
    call.do(c.Pause(), 30)
    assert call.do(c.Resume(), 60) == ["resumed", "clock_stopped"]
    assert call.remaining(70) == 100


def test_news_of_a_loss_before_the_candidate_left_on_purpose_stops_nothing() -> None:
    call = Call().started()
    call.join(0)
    call.join(12, "PA_2")
    call.leave(20, "client_initiated", "PA_2")
    call.leave(25, "signal_close", "PA_1", since=10)
    assert call.remaining(40) == 80


def test_late_news_of_a_replaced_connection_do_not_put_it_in_the_place_of_the_new_one() -> None:
    call = Call().started()
    call.join(0)
    call.join(10, "PA_2")
    call.join(11, "PA_1")
    assert call.leave(12, "signal_close", "PA_1") != STOPPED
    assert call.remaining(20) == 100 and call.view(20)["livekit"]["connected"]


def test_a_client_that_comes_and_goes_for_ever_is_noted_only_so_often() -> None:
    call = Call().started()
    for n in range(MAX_NOTED):
        call.join(n / 100, f"PA_{n}")
    before = call.state
    assert call.join(10, "PA_x") == [] and call.leave(11, "client_initiated", "PA_y") == []
    assert call.state == before
    assert call.leave(20, connection=f"PA_{MAX_NOTED - 1}") == STOPPED
    assert call.join(30, "PA_z") == ["participant_joined", "clock_credited"]
    assert call.remaining(30) == 100


def test_staff_who_start_while_the_candidate_is_lost_start_no_clock() -> None:
    call = Call()
    call.join(0)
    call.leave(1)
    assert call.do(c.Start(), 5) == ["started", "question_opened", "clock_stopped"]
    assert call.remaining(20) == 120
    call.join(30, "PA_2")
    assert call.remaining(40) == 110 and call.state.presence.stops == 0


def test_a_candidate_lost_while_parked_is_waited_for_when_it_goes_on() -> None:
    call = Call().started()
    call.join(0)
    call.do(c.Park("x", T0 + 30_000), 40)
    assert call.leave(50) == ["connection_lost"]
    assert call.do(c.Activate("a2", "n", "retry", retry=True), 90)[-1] == "clock_stopped"
    assert call.remaining(110) == 90
    call.join(120, "PA_2")
    assert call.remaining(130) == 80


def test_a_second_device_over_and_over_is_noted_only_so_often() -> None:
    call = Call().started()
    noted = 0
    for n in range(2 * MAX_NOTED):
        call.join(n / 100, f"PA_{n}")
        noted += len(call.leave(n / 100, "duplicate_identity", f"PA_{n}"))
    assert noted <= MAX_NOTED


def test_a_state_of_tomorrow_can_be_read() -> None:
    text = dump_state(Call().started().state)
    assert load_state(text.replace("{", '{"tomorrow": 1, ', 1)) == load_state(text)


# Pauses


def test_a_pause_ends_a_stop_and_resuming_stops_again_while_the_candidate_is_lost() -> None:
    call = Call().lost(at=10)
    assert call.do(c.Pause(), 30) == ["clock_credited", "paused"]
    assert call.view(40)["status_detail"] == "paused" and call.remaining(40) == 110
    assert call.do(c.Resume(), 100) == ["resumed", "clock_stopped"]
    assert call.view(100)["status_detail"] == "connection_lost"
    call.join(130, "PA_2")
    assert call.remaining(130) == 110 and call.state.paused_total_ms == 70_000
    assert call.ledger() == [("network", 20), ("network", 30)] and call.state.presence.stops == 1


def test_what_is_stopped_after_a_pause_is_counted_to_the_cap() -> None:
    call = Call().lost(at=10)
    call.do(c.Pause(), 110)
    call.do(c.Resume(), 500)
    assert call.state.due_at == T0 + 580_000
    call.do(c.Expire(), 600)
    assert call.ledger() == [("network", 100), ("network", 80)] and call.remaining(600) == 90


def test_a_connection_lost_during_a_pause_stops_the_clock_when_it_would_go_on() -> None:
    call = Call().started()
    call.join(0)
    call.do(c.Pause(), 10)
    assert call.leave(20) == ["connection_lost"]
    assert call.do(c.Resume(), 50) == ["resumed", "clock_stopped"]
    assert call.remaining(60) == 110


def test_a_sign_after_the_cap_is_one_too() -> None:
    call = Call().started()
    call.leave(10, credit_ms=20_000)
    call.do(c.Expire(), 31)
    call.do(c.Consent(), 40, CANDIDATE)
    assert not call.state.presence.lost
    version = call.state.version
    assert call.do(c.Start(), 41, CANDIDATE) == [] and call.state.version == version


@pytest.mark.parametrize("back", [c.NoteConnected("PA_2"), c.NoteConnected("x", "channel")])
def test_a_candidate_who_came_back_during_a_pause_is_not_lost(back: c.Command) -> None:
    call = Call().lost(at=10)
    call.do(c.Pause(), 20)
    call.do(back, 30, LIVEKIT)
    assert call.do(c.Resume(), 50) == ["resumed"]
    assert call.remaining(60) == 100


def test_a_sign_of_the_candidate_during_a_pause_is_one_too() -> None:
    call = Call().lost(at=10)
    call.do(c.Pause(), 20)
    call.do(c.Consent(), 30, CANDIDATE)
    assert call.do(c.Resume(), 50) == ["resumed"]
    assert call.remaining(60) == 100


def test_a_candidate_who_left_on_purpose_is_not_lost_after_a_pause() -> None:
    call = Call().started()
    call.join(0)
    call.leave(5, "client_initiated")
    call.do(c.Pause(), 10)
    assert call.do(c.Resume(), 20) == ["resumed"]


def test_pausing_at_the_cap_gives_no_more() -> None:
    call = Call().lost(at=10)
    call.do(c.Pause(), 250)
    assert call.ledger() == [("network", 180)] and call.remaining(300) == 50
    assert call.do(c.Resume(), 300) == ["resumed"]


@pytest.mark.parametrize("ends", [c.Pause(), c.NoteConnected("PA_2"), c.NoteConnected("channel-1", "channel")])
def test_a_stop_is_credited_once_whoever_ends_it(ends: c.Command) -> None:
    for caller in (STAFF, LIVEKIT, CANDIDATE):
        call = Call().lost(at=10)
        call.do(ends, 30, caller)
        assert call.ledger() == [("network", 20)], caller


# Time that was ours to answer for


def test_an_outage_during_a_stop_is_not_taken_off_the_cap() -> None:
    call = Call().lost(at=10)
    assert call.do(c.Credit(T0 + 40_000, "storage_unavailable"), 100) == ["clock_credited"]
    assert call.view(100)["status_detail"] == "connection_lost" and call.remaining(150) == 110
    assert call.state.due_at == T0 + 250_000
    call.join(120, "PA_2")
    assert call.ledger() == [("storage_unavailable", 60), ("network", 50)]
    assert call.remaining(120) == 110


def test_an_outage_that_began_before_the_stop() -> None:
    call = Call().lost(at=10)
    call.do(c.Credit(T0 + 4_000, "storage_unavailable"), 30)
    call.join(50, "PA_2")
    assert call.ledger() == [("storage_unavailable", 26), ("network", 20)]
    assert call.remaining(50) == 116


def test_a_crash_during_a_stop() -> None:
    call = Call().lost(at=10)
    assert call.do(c.Activate("a2", "n", "crash", T0 + 50_000), 80) == ["activated", "clock_credited"]
    assert call.view(80)["status_detail"] == "connection_lost"
    call.do(c.Expire(), 300)
    assert sorted(call.ledger()) == [("crash", 30), ("network", 180)]
    assert call.remaining(300) == 120 - 300 + 210
    assert call.do(c.Credit(T0 + 20_000, "storage_unavailable", T0 + 210_000), 300) == []


def test_a_crash_in_which_the_cap_passed() -> None:
    call = Call().lost(at=10)
    call.do(c.Activate("a2", "n", "crash", T0 + 70_000), 670)
    assert call.state.due_at == T0 + 790_000, "60 s of the 180 were used before it"
    call.join(680, "PA_2")
    assert call.remaining(680) == 110 and call.ledger() == [("crash", 600), ("network", 70)]


def test_a_stay_in_the_park_during_a_stop() -> None:
    call = Call().lost(at=10)
    call.do(c.Park("x", T0 + 30_000), 40)
    assert call.view(500)["status_detail"] == "parked" and call.remaining(500) == 110
    assert call.state.due_at is None and call.do(c.Expire(), 500) == []
    call.do(c.Activate("a2", "n", "retry", retry=True), 1_000)
    assert call.view(1_000)["status_detail"] == "connection_lost" and call.state.due_at == T0 + 1_160_000
    call.join(1_010, "PA_2")
    assert [seconds for cause, seconds in call.ledger() if cause == "network"] == [30]
    assert call.remaining(1_010) == 110


@pytest.mark.parametrize(("back", "caller"), ENDS[1:])
def test_a_stay_in_the_park_is_not_taken_off_the_cap_of_one_who_came_back_in_it(
    back: c.Command, caller: c.Caller
) -> None:
    call = Call().lost(at=10)
    call.do(c.Park("x", T0 + 30_000), 40)
    call.do(back, 100, caller)
    call.do(c.Activate("a2", "n", "retry", retry=True), 1_000)
    assert call.remaining(1_000) == 110
    assert [seconds for cause, seconds in call.ledger() if cause == "network"] == [20]
    assert sum(seconds for _, seconds in call.ledger()) == 990


def test_a_hand_over_during_a_stop_changes_nothing() -> None:
    call = Call().lost(at=10)
    call.do(c.Deactivate("drain"), 30)
    call.do(c.Activate("a2", "n", "released", T0 + 30_000), 30)
    call.join(60, "PA_2")
    assert call.ledger() == [("network", 50)] and call.remaining(60) == 110


# From when on


def test_a_connection_that_timed_out_was_lost_earlier() -> None:
    call = Call().started()
    call.join(0)
    assert call.leave(51, "connection_timeout") == STOPPED
    assert call.remaining(60) == 120 - 31
    call.join(61, "PA_2")
    assert call.ledger() == [("network", 30)]


def test_news_that_were_under_way_for_a_while() -> None:
    call = Call().started()
    call.join(0)
    call.leave(55, "signal_close", since=50)
    assert call.remaining(60) == 70
    ahead = Call().started()
    ahead.leave(55, "signal_close", since=500)
    assert ahead.remaining(60) == 65, "not in the future"


def test_not_before_the_question_was_opened() -> None:
    call = Call().started()
    call.join(0)
    call.do(c.Answer(0, "a"), 45)
    call.leave(51, "connection_timeout")
    assert call.remaining(60) == 300
    call.join(60, "PA_2")
    assert call.ledger() == [("network", 15)] and call.remaining(60) == 300


def test_not_before_the_candidate_last_typed() -> None:
    call = Call().started()
    call.join(0)
    call.leave(51, "connection_timeout", draft=draft_at(44))
    assert call.remaining(60) == 120 - 44
    earlier = Call().started()
    earlier.leave(51, "connection_timeout", draft=draft_at(20))
    assert earlier.remaining(60) == 120 - 31


def test_not_before_time_that_was_dealt_with() -> None:
    paused = Call().started()
    paused.do(c.Pause(), 30)
    paused.do(c.Resume(), 45)
    paused.leave(51, "connection_timeout")
    assert paused.remaining(60) == 120 - 30
    credited = Call().started()
    credited.do(c.Credit(T0 + 30_000, "storage_unavailable"), 40)
    credited.leave(51, "connection_timeout")
    assert credited.remaining(60) == 120 - 30
    taken = Call().started()
    taken.do(c.Activate("a2", "n", "crash", T0 + 40_000), 40)
    taken.leave(51, "connection_timeout")
    assert taken.remaining(60) == 120 - 40
    again = Call().lost(at=30)
    again.join(45, "PA_2")
    again.leave(51, "connection_timeout", "PA_2")
    assert again.remaining(60) == 120 - 30


def test_a_timeout_that_is_noticed_after_the_deadline_but_began_before_it() -> None:
    call = Call().started()
    call.join(0)
    assert call.leave(121, "connection_timeout") == STOPPED
    assert call.remaining(121) == 19


# The room in the journal


def test_intervals_with_and_without_video_are_in_the_journal() -> None:
    call = Call()
    away = c.NoteRoom("fallback", reason="LiveKit does not answer.")
    assert call.do(c.NoteRoom("live", "ws://x"), 1, LIVEKIT) == ["livekit"]
    call.started(2)
    assert call.do(away, 5, LIVEKIT) == ["livekit"]
    view = call.view(6)["livekit"]
    assert (view["mode"], view["url"], view["reason"]) == ("fallback", None, "LiveKit does not answer.")
    assert view["token_url"] is None and view["since"] == "2023-11-14T22:13:25.000Z"
    assert call.do(c.NoteRoom("live", "ws://x"), 9, LIVEKIT) == ["livekit"]
    view = call.view(10)["livekit"]
    assert (view["mode"], view["url"], view["reason"]) == ("live", "ws://x", None)
    assert view["token_url"] == "/api/parallel_interview/session/s1/token"
    assert call.remaining(12) == 110, "no clock minds"


def test_the_same_room_again_is_not_written() -> None:
    call = Call()
    for room in (c.NoteRoom("live", "ws://x"), c.NoteRoom("fallback", reason="away")):
        assert call.do(room, 1, LIVEKIT) == ["livekit"]
        assert call.do(room, 2, LIVEKIT) == []
    assert call.do(c.NoteRoom("live", "ws://x"), 3, LIVEKIT) == ["livekit"]
    assert call.do(c.NoteRoom("live", "ws://y"), 4, LIVEKIT) == ["livekit"]
    assert call.do(c.NoteRoom("closed"), 5, LIVEKIT) == [], "not before the end"


@pytest.mark.parametrize("room", [c.NoteRoom("live", "ws://x"), c.NoteRoom("fallback", reason="away")])
def test_a_room_is_closed_once_after_the_end(room: c.NoteRoom) -> None:
    call = Call()
    call.do(room, 1, LIVEKIT)
    call.started(2)
    call.do(c.End(), 10)
    assert call.state.room_work == "closing" and snapshot_of(call.state).room == "closing"
    assert call.do(c.NoteRoom("live", "ws://z"), 11, LIVEKIT) == []
    assert call.do(c.NoteRoom("closed"), 12, LIVEKIT) == ["room_closed"]
    assert call.do(c.NoteRoom("closed"), 13, LIVEKIT) == []
    assert call.state.room_work is None


@pytest.mark.parametrize("room", [c.NoteRoom("live", "ws://x"), c.NoteRoom("fallback", reason="away")])
def test_what_clients_see_does_not_change_with_the_closing_as_the_version_does_not(room: c.NoteRoom) -> None:
    call = Call()
    call.do(room, 1, LIVEKIT)
    call.started(2)
    call.do(c.End(), 10)
    before = call.view(20)
    call.do(c.NoteRoom("closed"), 12, LIVEKIT)
    assert call.view(20)["version"] == before["version"]
    assert call.view(20) == before


def test_an_interview_that_never_had_a_room_has_none_to_close() -> None:
    call = Call().started()
    call.do(c.End(), 10)
    assert call.state.room_work is None and call.do(c.NoteRoom("closed"), 12, LIVEKIT) == []


def test_what_there_is_to_do_about_a_room() -> None:
    call = Call()
    assert call.state.room_work == "later"
    call.do(c.NoteRoom("live", "ws://x"), 1, LIVEKIT)
    assert call.state.room_work == "open"
    call.do(c.NoteRoom("fallback", reason="away"), 2, LIVEKIT)
    assert call.state.room_work == "wanted"
    later = Call(scheduled_at=T0 + 3_600_000)
    assert later.state.room_work == "later"
    later.started(10)
    assert later.state.room_work == "wanted"


def test_the_journal_shows_candidates_their_own_connections() -> None:
    entries = [first_entry()]
    state = fold(None, entries[0])
    for command in (HERE, c.NoteRoom("live", "ws://x")):
        entries.append(new_entry("s1", state.next_seq, 0, T0, decide(state, command, LIVEKIT, T0), by="livekit"))
        state = fold(state, entries[-1])
    seen = [event["type"] for event in event_views(entries, "candidate")]
    assert seen == ["participant_joined", "livekit"]


# In the hands of its owner


async def test_a_draft_ends_a_stop() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    await session.execute(_request(HERE, T0), T0)
    await session.execute(_request(_lost(10), T0 + 10_000), T0 + 10_000)
    assert session.view(T0 + 40_000, "staff")["status_detail"] == "connection_lost"
    assert await session.save_draft(0, "typing", None, T0 + 40_000) == DraftSaved(1, True)
    assert _ledger(session.state) == [("network", 30_000)]
    assert session.state.deadline == T0 + 150_000 and not session.state.presence.lost
    appends = journal.appends
    await session.save_draft(0, "typing on", None, T0 + 41_000)
    assert journal.appends == appends, "drafts are no entries of the journal"
    assert _ledger((await Session.load(journal, "s1")).state) == [("network", 30_000)]


async def test_the_last_draft_limits_how_far_a_timeout_reaches_back() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    await session.execute(_request(HERE, T0), T0)
    await session.save_draft(0, "typing", None, T0 + 44_000)
    await session.execute(_request(_lost(51, "connection_timeout"), T0 + 51_000), T0 + 51_000)
    assert session.state.open is not None and session.state.open.lost_at == T0 + 44_000


async def test_an_answer_long_after_the_cap_is_judged_by_the_clock_that_went_on() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    await session.execute(_request(_lost(10), T0 + 10_000), T0 + 10_000)
    with pytest.raises(StateConflict):
        await session.execute(_request(c.Answer(0, "late"), T0 + 303_000), T0 + 303_000)
    assert [a.source for a in session.state.answers] == ["timeout"]
    assert _ledger(session.state) == [("network", CAP)]


async def test_a_repeated_webhook_is_one_event() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    for at in (T0 + 1_000, T0 + 2_000):
        request = _request(HERE, at, "EV_1")
        reply = await session.execute(request, at)
        assert reply.replayed == (at != T0 + 1_000)
    assert session.state.presence.noted == 1


Clock = Callable[[], int]


@pytest.fixture(params=["held", "handed over"])
def _handing_over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "hands_over", request.param == "handed over")


@pytest.mark.usefixtures("_handing_over")
def test_the_owners_timer_lets_the_clock_go_on_at_the_cap() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        began = clock()
        await world.start()
        await world.send(HERE, caller=LIVEKIT)
        await asyncio.sleep(30)
        assert isinstance(await world.send(_lost(30), caller=LIVEKIT), Reply)
        await asyncio.sleep(179)
        assert (await world.stored()).status_detail == "connection_lost"
        await asyncio.sleep(1.5)
        state = await world.stored()
        assert state.status_detail == "question_open"
        assert world.ledger(state) == [("network", CAP)]
        assert state.deadline is not None and abs(state.deadline - began - 300_000) < 100
        await asyncio.sleep(91)
        assert (await world.stored()).answers == ()
        await asyncio.sleep(2)
        state = await world.stored()
        assert [a.elapsed_ms for a in state.answers] == [120_000] and state.open is not None
        assert abs(state.open.opened_at - began - 302_000) < 100

    run_virtual(scenario)


@pytest.mark.usefixtures("_handing_over")
def test_the_owners_timer_follows_a_candidate_who_is_back() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        began = clock()
        await world.start()
        await world.send(HERE, caller=LIVEKIT)
        await asyncio.sleep(30)
        await world.send(_lost(30), caller=LIVEKIT)
        await asyncio.sleep(60)
        await world.send(c.NoteConnected("PA_2"), caller=LIVEKIT)
        await asyncio.sleep(91)
        assert (await world.stored()).answers == ()
        await asyncio.sleep(2)
        state = await world.stored()
        assert [a.elapsed_ms for a in state.answers] == [120_000] and state.open is not None
        assert abs(state.open.opened_at - began - 182_000) < 100
        assert world.ledger(state) == [("network", 60_000)]

    run_virtual(scenario)


@pytest.mark.usefixtures("_handing_over")
def test_a_draft_sent_to_the_actor_ends_the_stop_and_moves_its_timer() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await world.send(HERE, caller=LIVEKIT)
        await asyncio.sleep(30)
        await world.send(_lost(30), caller=LIVEKIT)
        await asyncio.sleep(100)
        assert isinstance(await world.save_draft(0, "typing"), DraftSaved)
        assert (await world.stored()).status_detail == "question_open"
        await asyncio.sleep(91)
        assert (await world.stored()).answers == ()
        await asyncio.sleep(2)
        state = await world.stored()
        assert [(a.answer, a.source) for a in state.answers] == [("typing", "draft")]
        assert world.ledger(state) == [("network", 100_000)]

    run_virtual(scenario)


@pytest.mark.usefixtures("_handing_over")
def test_an_answer_during_a_stop_is_taken_by_the_actor() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await asyncio.sleep(30)
        await world.send(_lost(30), caller=LIVEKIT)
        await asyncio.sleep(150)
        assert isinstance(await world.send(c.Answer(0, "a"), caller=CANDIDATE), Reply)
        state = await world.stored()
        assert [a.elapsed_ms // 100 for a in state.answers] == [300]
        assert state.status_detail == "question_open" and state.open is not None and state.open.index == 1

    run_virtual(scenario)


def _request(command: c.Command, at: int, command_id: str | None = None) -> Request:
    system = isinstance(command, c.NoteConnected | c.NoteDisconnected)
    return Request(command, LIVEKIT if system else CANDIDATE, at, command_id)


def _lost(at: float, reason: str = "signal_close") -> c.NoteDisconnected:
    return c.NoteDisconnected("PA_1", reason, T0 + round(at * 1000), CAP)


def _ledger(state: State) -> list[tuple[str, int]]:
    return [(line.cause, line.ms) for line in state.ledger]


# Whatever happens, in whatever order

LIMIT = 900
"""Seconds of the one question below; long enough that the stops' and the pauses' sum is what matters."""


@dataclass
class Model:
    """What each second of the open question was: the candidate's, or given back for some cause. An oracle that knows
    nothing of deadlines, only of seconds."""

    now: int = 0
    seconds: list[str] = field(default_factory=list)
    settled: int = 0
    here: set[str] = field(default_factory=set)
    lost: bool = False
    paused: bool = False
    stopped: bool = False
    stops: int = 0
    cap: int = CAP // 1000

    @property
    def left(self) -> int:
        """Of the cap."""
        return self.cap - self.seconds.count("network")

    @property
    def elapsed(self) -> int:
        return self.seconds.count("run")

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            if self.stopped and self.left == 0:
                self._goes_on()
            self.seconds.append("paused" if self.paused else "network" if self.stopped else "run")
            self.now += 1

    def silence(self, seconds: int) -> None:
        """Time that is given back for another cause, unless the clock is paused."""
        self.seconds += ["paused" if self.paused else "credit"] * seconds
        self.now += seconds
        if not self.paused:
            self.settled = self.now

    def stop(self, since: int) -> None:
        if self.left == 0 or self.stops == MAX_STOPS:
            return
        self.stopped, self.stops = True, self.stops + 1
        for second in range(max(since, self.settled), self.now):
            if self.left == 0:
                self.stopped, self.settled = False, second
                return
            self.seconds[second] = "network"

    def _goes_on(self) -> None:
        if self.stopped:
            self.stopped, self.settled = False, self.now

    def back(self) -> None:
        self._goes_on()
        self.lost = False

    def pause(self) -> None:
        if not self.paused:
            self._goes_on()
            self.paused = True

    def resume(self) -> None:
        if self.paused:
            self.paused, self.settled = False, self.now
            if self.lost:
                self.stop(self.now)


moves = st.one_of(
    st.tuples(st.just("join"), st.sampled_from(["livekit", "channel"])),
    st.tuples(st.just("lose"), st.sampled_from(["signal_close", "connection_timeout", "not_in_room", "migration"])),
    st.tuples(st.just("lose"), st.sampled_from(["client_initiated", "participant_removed", "duplicate_identity"])),
    st.tuples(st.just("sign"), st.just("")),
    st.tuples(st.just("pause"), st.just("")),
    st.tuples(st.just("resume"), st.just("")),
    st.tuples(st.just("outage"), st.integers(1, 90)),
    st.tuples(st.just("crash"), st.integers(1, 90)),
    st.tuples(st.just("hand over"), st.just("")),
    st.tuples(st.just("repeat"), st.just("")),
    st.tuples(st.just("extend"), st.integers(1, 30)),
)
lives = st.lists(st.tuples(st.integers(0, 120), moves), max_size=25)


def play(life: list[tuple[int, tuple[str, Any]]], *, always_there: bool = False) -> tuple[State, Model]:
    """An interview of one long question and the model of it, compared after every step."""
    call, model, joined = Call(questions=1, text_question_timer=LIMIT).started(), Model(), 0
    news: list[c.NoteConnected | c.NoteDisconnected] = []
    if always_there:
        call.join(0, "channel-0", "channel")
        model.here.add("channel-0")
    for later, (move, how) in life:
        if model.elapsed + later >= LIMIT:
            break
        model.wait(later)
        while call.state.is_overdue(T0 + model.now * 1000):
            assert call.do(c.Expire(), model.now) == ["clock_credited"]
        compare(call.state, model)
        if move == "join" and not (always_there and str(how) == "channel"):
            joined += 1
            connection = f"{how}-{joined}"
            news.append(c.NoteConnected(connection, how))
            call.do(news[-1], model.now, LIVEKIT)
            model.here = {known for known in model.here if not known.startswith(how)} | {connection}
            model.back()
        elif move == "lose":
            ours = sorted(model.here - {"channel-0"})
            if not ours:
                continue
            connection = ours[-1]
            source: c.Source = "livekit" if connection.startswith("livekit") else "channel"
            news.append(c.NoteDisconnected(connection, how, T0 + model.now * 1000, CAP, source))
            call.do(news[-1], model.now, LIVEKIT)
            model.here.remove(connection)
            model.lost = how in NOT_THE_CANDIDATES_DOING and (source == "channel" or not model.here)
            if model.lost and not model.paused:
                model.stop(max(0, model.now - (20 if how == "connection_timeout" else 0)))
        elif move == "sign":
            call.do(c.Start(), model.now, CANDIDATE)
            model.back()
        elif move == "pause":
            call.do(c.Pause(), model.now)
            model.pause()
        elif move == "resume":
            call.do(c.Resume(), model.now)
            model.resume()
        elif move == "outage":
            since = T0 + model.now * 1000
            model.silence(how)
            call.do(c.Credit(since, "storage_unavailable"), model.now)
        elif move == "crash":
            since = T0 + model.now * 1000
            model.silence(how)
            call.do(c.Activate("a", "n", "crash", since, retry=True), model.now)
            model.settled = model.now
        elif move == "hand over":
            call.do(c.Deactivate("drain"), model.now)
            call.do(c.Activate("a", "n", "released", T0 + model.now * 1000, retry=True), model.now)
            model.settled = model.now
        elif move == "repeat":
            for old in news:
                if old.connection in model.here or old.connection in call.state.presence.gone:
                    assert call.do(old, model.now, LIVEKIT) == []
        elif move == "extend":
            call.do(c.Extend(how, "x"), model.now)
        while call.state.is_overdue(T0 + model.now * 1000):
            call.do(c.Expire(), model.now)
        compare(call.state, model)
        assert load_state(dump_state(call.state)) == call.state
    return call.state, model


def compare(state: State, model: Model) -> None:
    question, now = state.open, T0 + model.now * 1000
    assert question is not None
    assert question.elapsed_ms(now) == model.elapsed * 1000
    standing = 0
    if question.paused_at is not None:
        standing = now - question.paused_at
    elif question.lost_at is not None:
        standing = min(now - question.lost_at, question.lost_limit_ms)
    assert question.elapsed_ms(now) + question.stopped_ms + standing == now - question.opened_at
    given = {cause: sum(line.ms for line in state.ledger if line.cause == cause) for cause in ("network", "extended")}
    assert given["network"] <= CAP and state.presence.stops <= MAX_STOPS
    if question.lost_at is None:
        assert given["network"] == model.seconds.count("network") * 1000
    credited = sum(line.ms for line in state.ledger) - given["network"] - given["extended"]
    assert credited == model.seconds.count("credit") * 1000, "nothing twice"
    assert question.remaining_ms(now) == max(0, LIMIT * 1000 + given["extended"] - model.elapsed * 1000)
    remaining = [question.remaining_ms(now + later) for later in (0, 1, 1_000, 60_000, 3_600_000)]
    assert remaining == sorted(remaining, reverse=True), "it never grows by itself"
    assert (question.lost_at is not None) == model.stopped
    assert state.paused == model.paused
    assert {connection for _, connection in state.presence.here} == model.here
    detail = "paused" if model.paused else "connection_lost" if model.stopped else "question_open"
    assert state.status_detail == detail
    assert (state.deadline is None) == (model.paused or model.stopped)


@settings(max_examples=400, deadline=None)
@given(lives)
def test_every_second_is_the_candidates_or_given_back_once(life: list[tuple[int, tuple[str, Any]]]) -> None:
    play(life)


@settings(max_examples=150, deadline=None)
@given(lives)
def test_a_candidate_who_is_always_there_gets_exactly_the_limit(life: list[tuple[int, tuple[str, Any]]]) -> None:
    state, model = play(life, always_there=True)
    assert "network" not in model.seconds and state.presence.stops == 0
    assert state.open is not None
    if state.deadline is not None:
        given = LIMIT * 1000 + state.open.extended_ms
        assert state.deadline - state.open.opened_at - state.open.stopped_ms == given
