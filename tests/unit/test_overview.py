"""What operators see of many sessions: rows that change only when something has, and the last hour by the minute."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.interview.commands import Answer, Command, End, Pause, Start
from orchestrator.interview.decide import decide
from orchestrator.interview.entry import new_entry
from orchestrator.interview.fold import fold
from orchestrator.interview.overview import MINUTE_MS, last_hour, row_of
from orchestrator.interview.state import Presence, State
from orchestrator.policies import policy_of
from tests.unit.world import CANDIDATE, STAFF, T0, first_entry

HOUR = 60 * MINUTE_MS
NOW = (T0 // MINUTE_MS) * MINUTE_MS + 30_000


def after(*commands: Command) -> State:
    """A session to which these happened, a second apart."""
    state = fold(None, first_entry(questions=3))
    for number, command in enumerate(commands, 1):
        caller = CANDIDATE if isinstance(command, (Start, Answer)) else STAFF
        now = T0 + 1_000 * number
        state = fold(state, new_entry("s1", state.next_seq, 0, now, decide(state, command, caller, now)))
    return state


def test_a_row_tells_how_an_interview_stands() -> None:
    state = after(Start(), Answer(0, "Because."))
    row = row_of(state, policy_of(state))
    assert (row["name"], row["answered"], row["questions"], row["status"]) == ("Ada", 1, 3, "in_progress")
    assert row["question"] == {
        "index": 1,
        "type": "coding",
        "deadline": "2023-11-14T22:18:22.000Z",
        "remaining_seconds": None,
    }
    assert row["page"] == "away", "its candidate has given a sign, and is not connected"
    assert row["integrity"] == {"score": 100.0, "label": "none"}
    assert "Because." not in repr(row), "what candidates write is not on the board"


def test_while_the_clock_stands_a_row_says_what_is_left() -> None:
    row = row_of(after(Start(), Pause(None)), None)
    assert row["question"]["deadline"] is None and row["question"]["remaining_seconds"] == 119.0
    assert row["integrity"] is None


def test_before_the_start_and_after_the_end_no_question_is_open() -> None:
    assert row_of(after(), None)["question"] is None
    ended = row_of(after(Start(), End(None)), None)
    assert (ended["question"], ended["end_reason"]) == (None, "ended_by_staff")


def test_a_page_is_there_or_lost_or_was_never_opened() -> None:
    state = after()
    assert row_of(state, None)["page"] == "unseen"
    here = replace(state, presence=Presence(here=(("channel", "front-end-1:a"),), lost=True))
    assert row_of(here, None)["page"] == "here"
    assert row_of(replace(state, presence=Presence(lost=True, gone=("a",))), None)["page"] == "lost"
    assert row_of(replace(state, presence=Presence(gone=("a",))), None)["page"] == "away"


def test_the_last_hour_is_counted_by_the_minute() -> None:
    spans = [
        (NOW - 2 * HOUR, None),  # since before it
        (NOW - 2 * HOUR, NOW - 90 * MINUTE_MS),  # over before it
        (NOW - 2 * HOUR, NOW - 30 * MINUTE_MS),
        (NOW - 10 * MINUTE_MS, NOW - 5 * MINUTE_MS),
        (NOW, None),
        (NOW, NOW + 1),
    ]
    minutes = last_hour(spans, NOW)
    assert len(minutes) == 60
    assert minutes[0] == (2, 0, 0) and minutes[29] == (1, 0, 1) and minutes[28] == (2, 0, 0)
    assert minutes[49] == (2, 1, 0) and minutes[54] == (1, 0, 1)
    assert minutes[59] == (2, 2, 1)
    assert last_hour([], NOW) == [(0, 0, 0)] * 60
