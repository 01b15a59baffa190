"""The rules of an interview, one behaviour a test, on a virtual clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.errors import InvalidInput, NotFound, StateConflict
from orchestrator.interview import commands as c
from orchestrator.interview.allowed import allowed_actions
from orchestrator.interview.decide import activation, decide
from orchestrator.interview.entry import new_entry
from orchestrator.interview.fold import fold
from orchestrator.interview.snapshot import Draft
from orchestrator.interview.state import State, dump_state, load_state, snapshot_of
from orchestrator.interview.view import session_view
from tests.unit.world import CANDIDATE, DOUBLE_TIME, STAFF, T0, first_entry


class Interview:
    """Drives the pure core: command in, events folded."""

    def __init__(self, **changes: Any) -> None:
        self.state: State = fold(None, first_entry(**changes))

    def do(self, command: c.Command, at: float, caller: c.Caller = STAFF, draft: Draft | None = None) -> list[str]:
        now = T0 + round(at * 1000)
        events = decide(self.state, command, caller, now, draft)
        return self.write(events, now)

    def write(self, events: list[dict[str, Any]], now: int) -> list[str]:
        if events:
            self.state = fold(self.state, new_entry("s1", self.state.next_seq, self.state.epoch, now, events))
        return [e["type"] for e in events]

    def started(self, at: float = 0) -> Interview:
        now = T0 + round(at * 1000)
        taken = activation(self.state, c.Activate("actor-1", "node-1", "start"))
        self.write([taken, *decide(self.state, c.Start(), STAFF, now)], now)
        return self

    def view(self, at: float, role: c.Role = "staff") -> dict[str, Any]:
        return session_view(self.state, T0 + round(at * 1000), role)


def draft(text: str, index: int = 0) -> Draft:
    return Draft("s1", index, 1, 1, text, T0)


def test_answers_close_questions_in_turn_and_the_last_one_completes() -> None:
    interview = Interview().started()
    assert interview.do(c.Answer(0, "a"), 5) == ["question_closed", "question_opened"]
    assert interview.do(c.Answer(1, "b", "python"), 15) == ["question_closed", "question_opened"]
    assert interview.do(c.Answer(2, "c"), 20) == ["question_closed", "completed"]
    view = interview.view(30)
    assert view["status"] == "completed" and view["end_reason"] == "finished"
    assert [a["elapsed_seconds"] for a in view["answers"]] == [5, 10, 5]
    assert view["current_question_count"] == 3 and view["current_question"] is None


def test_the_same_answer_again_changes_nothing_and_another_is_refused() -> None:
    interview = Interview(questions=1).started()
    interview.do(c.Answer(0, "a"), 5)
    assert interview.do(c.Answer(0, "a"), 6) == []
    with pytest.raises(StateConflict) as caught:
        interview.do(c.Answer(0, "b"), 7)
    assert caught.value.fields["current_status"] == "completed"


def test_an_answer_counts_within_the_grace_and_not_after_it() -> None:
    interview = Interview().started()
    with pytest.raises(StateConflict, match="run out"):
        interview.do(c.Answer(0, "late"), 122.001)
    assert interview.do(c.Answer(0, "just"), 122.0) == ["question_closed", "question_opened"]


def test_when_time_runs_out_the_draft_becomes_the_answer() -> None:
    interview = Interview(questions=2).started()
    assert interview.do(c.Expire(), 122.0) == []
    assert interview.do(c.Expire(), 122.1, draft=draft("half a")) == ["question_closed", "question_opened"]
    answer = interview.view(123)["answers"][0]
    assert (answer["answer"], answer["source"], answer["elapsed_seconds"]) == ("half a", "draft", 120)
    assert interview.view(122.1)["current_question"]["remaining_seconds"] == 300


def test_without_a_sign_of_the_candidate_the_session_is_abandoned() -> None:
    interview = Interview(questions=1).started()
    assert interview.do(c.Expire(), 123) == ["question_closed", "completed"]
    assert interview.view(123)["end_reason"] == "abandoned"
    assert interview.view(123)["answers"][0]["source"] == "timeout"


def test_a_pause_stops_the_clock_and_is_not_counted() -> None:
    interview = Interview(questions=1).started()
    assert interview.do(c.Pause("fire alarm"), 20) == ["paused"]
    assert interview.do(c.Pause(), 21) == []
    view = interview.view(500)
    assert view["status_detail"] == "paused"
    assert view["current_question"]["deadline"] is None
    assert view["current_question"]["remaining_seconds"] == 100
    with pytest.raises(StateConflict):
        interview.do(c.Answer(0, "a"), 500)
    assert interview.do(c.Expire(), 5_000) == []
    assert interview.do(c.Resume(), 5_000) == ["resumed"]
    assert interview.view(5_000)["current_question"]["remaining_seconds"] == 100
    interview.do(c.Answer(0, "a"), 5_010)
    assert interview.view(5_010)["answers"][0]["elapsed_seconds"] == 30
    assert interview.state.duration_ms == 30_000


def test_extending_moves_the_deadline_and_stands_in_the_ledger() -> None:
    interview = Interview().started()
    before = interview.state.deadline
    interview.do(c.Extend(60, "interpreter"), 10)
    assert before is not None and interview.state.deadline == before + 60_000
    assert interview.view(10)["clock"] == {
        "credited_seconds": 60.0,
        "ledger": [{"seconds": 60.0, "cause": "extended", "at": "2023-11-14T22:13:30.000Z"}],
    }


def test_a_crash_is_credited_from_the_last_proof_of_life() -> None:
    interview = Interview().started()
    assert interview.do(c.Activate("actor-2", "n", "crash", T0 + 100_000), 130) == [
        "activated",
        "clock_credited",
    ]
    assert interview.view(130)["current_question"]["remaining_seconds"] == 20
    assert interview.view(130)["clock"]["ledger"][0] == {
        "seconds": 30.0,
        "cause": "crash",
        "at": "2023-11-14T22:15:30.000Z",
    }
    assert interview.do(c.Expire(), 130) == []


def test_a_deadline_that_had_passed_before_the_fault_fires_late() -> None:
    interview = Interview().started()
    assert interview.do(c.Activate("actor-2", "n", "crash", T0 + 125_000), 400) == ["activated"]
    events = decide(interview.state, c.Expire(), STAFF, T0 + 400_000)
    assert events[0]["late_by"] == 400_000 - 122_000


def test_storage_being_away_is_credited_but_not_while_paused() -> None:
    interview = Interview().started()
    assert interview.do(c.Credit(T0 + 10_000, "storage_unavailable"), 70) == ["clock_credited"]
    assert interview.view(70)["current_question"]["remaining_seconds"] == 110
    interview.do(c.Pause(), 71)
    assert interview.do(c.Credit(T0 + 72_000, "storage_unavailable"), 90) == []


def test_three_activations_in_vain_park_the_session_and_staff_can_retry() -> None:
    interview = Interview().started()
    for n in range(2):
        assert "activated" in interview.do(c.Activate(f"a{n}", "n", "crash", T0 + 1_000 + n), 2 + n)
    assert interview.do(c.Activate("a9", "n", "crash", T0 + 5_000), 10) == ["parked"]
    view = interview.view(600)
    assert view["status_detail"] == "parked" and view["placement"] is None
    assert view["current_question"]["deadline"] is None
    assert interview.do(c.Expire(), 6_000) == []
    with pytest.raises(StateConflict):
        interview.do(c.Activate("a10", "n", "recovered", T0), 6_000)
    assert "start" in allowed_actions(interview.state)
    remaining = interview.view(6_000)["current_question"]["remaining_seconds"]
    assert interview.do(c.Activate("a11", "n", "retry", retry=True), 6_000) == ["activated", "clock_credited"]
    assert interview.view(6_000)["current_question"]["remaining_seconds"] == pytest.approx(remaining, abs=0.01)


def test_an_activation_that_did_something_is_not_fruitless() -> None:
    interview = Interview().started()
    for n in range(10):
        assert interview.do(c.Activate(f"a{n}", "n", "crash", T0 + n), n + 1)[0] == "activated"
        interview.do(c.Extend(1, "x"), n + 1)


ABANDON = c.Abandon(60_000)


def test_an_interview_without_a_sign_of_the_candidate_is_abandoned_after_a_while() -> None:
    interview = Interview().started()
    assert interview.do(ABANDON, 60) == []
    assert interview.do(ABANDON, 60.1) == ["completed"]
    assert interview.view(61)["end_reason"] == "abandoned"


def test_pauses_and_credits_are_no_time_without_a_sign_but_extensions_are() -> None:
    interview = Interview().started()
    interview.do(c.Pause(), 10)
    assert interview.do(ABANDON, 500) == []
    interview.do(c.Resume(), 510)
    interview.do(c.Extend(30, "x"), 511)
    assert interview.state.unseen_since == T0 + 500_000
    interview.do(c.Credit(T0 + 515_000, "storage_unavailable"), 535)
    assert interview.state.unseen_since == T0 + 520_000
    assert interview.do(ABANDON, 580) == []
    assert interview.do(ABANDON, 580.1) == ["completed"]


def test_a_crash_and_a_stay_in_the_park_are_no_time_without_a_sign() -> None:
    interview = Interview().started()
    interview.do(c.Activate("a2", "n", "crash", T0 + 10_000), 40)
    assert interview.state.unseen_since == T0 + 30_000
    interview.do(c.Park("x", T0 + 50_000), 60)
    assert interview.do(ABANDON, 5_000) == []
    interview.do(c.Activate("a3", "n", "retry", retry=True), 5_000)
    assert interview.state.unseen_since == T0 + 30_000 + 4_950_000


def test_a_draft_is_a_sign_of_the_candidate() -> None:
    interview = Interview().started()
    assert interview.do(ABANDON, 61, draft=draft("so far")) == ["candidate_seen"]
    version = interview.state.version
    assert interview.do(ABANDON, 62) == []
    assert interview.do(ABANDON, 110, draft=draft("more")) == []
    assert interview.state.unseen_since is None and interview.state.version == version


def test_an_empty_draft_is_none() -> None:
    interview = Interview().started()
    assert interview.do(ABANDON, 61, draft=draft("")) == ["completed"]


@pytest.mark.parametrize("sign", [c.Answer(0, "a"), c.Consent()])
def test_an_answer_and_a_consent_are_signs_of_the_candidate(sign: c.Command) -> None:
    interview = Interview().started()
    interview.do(sign, 5, CANDIDATE)
    assert interview.state.unseen_since is None and interview.do(ABANDON, 100) == []


def test_a_consent_before_the_start_and_a_deadline_that_ran_out_are_not() -> None:
    interview = Interview()
    interview.do(c.Consent(), 0, CANDIDATE)
    interview.started()
    interview.do(c.Expire(), 123)
    assert interview.state.unseen_since == T0 and interview.do(ABANDON, 124) == ["completed"]


def test_the_snapshot_says_since_when_the_candidate_gave_no_sign() -> None:
    interview = Interview()
    assert snapshot_of(interview.state).unseen_since is None
    interview.started(5)
    assert snapshot_of(interview.state).unseen_since == T0 + 5_000
    interview.do(c.Pause(), 10)
    assert snapshot_of(interview.state).unseen_since is None
    interview.do(c.Resume(), 30)
    assert snapshot_of(interview.state).unseen_since == T0 + 25_000
    interview.do(c.Park("x", T0 + 35_000), 35)
    assert snapshot_of(interview.state).unseen_since is None
    interview.do(c.End(), 40)
    assert snapshot_of(interview.state).unseen_since is None


def test_parking_stops_the_clock_from_a_time_before_and_a_retry_gives_it_back() -> None:
    interview = Interview().started()
    assert interview.do(c.Park("poisoned", T0 + 30_000), 50) == ["parked"]
    view = interview.view(5_000)
    assert view["status_detail"] == "parked" and view["current_question"]["remaining_seconds"] == 90
    assert interview.state.due_at is None and interview.state.parked == "poisoned"
    assert interview.do(c.Park("again", T0 + 60_000), 60) == []
    assert interview.do(c.Extend(10, "x"), 100) == ["extended"]
    assert interview.do(c.Activate("a2", "n", "retry", retry=True), 5_000) == ["activated", "clock_credited"]
    assert interview.view(5_000)["current_question"]["remaining_seconds"] == 100


def test_a_paused_session_that_is_parked_stays_paused() -> None:
    interview = Interview().started()
    interview.do(c.Pause(), 20)
    assert interview.do(c.Park("x", T0 + 30_000), 50) == ["parked"]
    assert interview.do(c.Activate("a2", "n", "retry", retry=True), 500) == ["activated"]
    interview.do(c.Resume(), 600)
    assert interview.view(600)["current_question"]["remaining_seconds"] == 100


@pytest.mark.parametrize("command", [c.Pause(), c.Resume()])
def test_a_clock_that_stands_still_in_the_park_is_not_paused_or_resumed(command: c.Command) -> None:
    interview = Interview().started()
    interview.do(c.Park("x", T0 + 30_000), 50)
    with pytest.raises(StateConflict):
        interview.do(command, 100)


def test_ending_a_parked_session_counts_the_time_until_it_was_parked() -> None:
    interview = Interview().started()
    interview.do(c.Park("x", T0 + 30_000), 50)
    interview.do(c.End(), 5_000, STAFF, draft("so far"))
    assert interview.view(5_000)["answers"][0]["elapsed_seconds"] == 30


@pytest.mark.parametrize(("caller", "reason"), [(STAFF, "ended_by_staff"), (CANDIDATE, "ended_by_candidate")])
def test_ending_says_who_ended_and_keeps_the_draft(caller: c.Caller, reason: str) -> None:
    interview = Interview().started()
    assert interview.do(c.End(), 10, caller, draft("so far")) == ["question_closed", "completed"]
    view = interview.view(10)
    assert view["end_reason"] == reason
    assert [(a["answer"], a["source"]) for a in view["answers"]] == [("so far", "draft")]
    assert interview.do(c.End(), 11) == []


def test_a_session_that_never_started_ends_as_cancelled_or_expires() -> None:
    interview = Interview()
    assert interview.do(c.End(), 1) == ["completed"]
    assert interview.view(1)["end_reason"] == "cancelled"
    late = Interview(expires_at=T0 + 60_000)
    assert late.do(c.Expire(), 60) == []
    assert late.do(c.Expire(), 60.1) == ["completed"]
    assert late.view(61)["end_reason"] == "expired"


def test_time_limits_follow_question_type_own_limit_and_multiplier() -> None:
    asked = (c.Question("a"), c.Question("b", "coding"), c.Question("c", "text", 10))
    interview = Interview(questions=3)
    interview.do(
        c.Update(
            {"questions": [{"text": q.text, "type": q.type, "time_limit_seconds": q.time_limit_seconds} for q in asked]}
        ),
        0,
    )
    state = replace(interview.state, accommodations=DOUBLE_TIME)
    assert [state.limit_ms(i) for i in range(3)] == [240_000, 600_000, 20_000]


def test_max_questions_is_clamped_to_what_there_is() -> None:
    assert Interview(questions=3, max_questions=10).state.max_questions == 3
    assert Interview(questions=3, max_questions=2).state.max_questions == 2


def test_a_candidate_sees_no_question_that_is_not_open() -> None:
    interview = Interview(metadata={"team": "x"}).started()
    text = str(interview.view(1, "candidate"))
    assert "Question 0?" in text and "Question 1?" not in text
    view = interview.view(1, "candidate")
    assert not {"questions", "placement", "metadata"} & view.keys()
    assert "integrity" not in view["proctoring"]


def test_an_answer_out_of_range_is_bad_input() -> None:
    interview = Interview().started()
    for index in (-1, 3):
        with pytest.raises(InvalidInput):
            interview.do(c.Answer(index, "x"), 1)


def test_the_version_counts_only_what_a_client_can_see() -> None:
    interview = Interview().started()
    version = interview.state.version
    interview.do(c.Deactivate("drain"), 1)
    interview.do(c.NewLink(), 2)
    assert interview.state.version == version
    interview.do(c.Pause(), 3)
    assert interview.state.version == version + 1


def test_a_state_survives_its_snapshot() -> None:
    interview = Interview().started()
    interview.do(c.Answer(0, "שלום 🎯\u0000"), 5)
    interview.do(c.Extend(5, "x"), 6)
    assert load_state(dump_state(interview.state)) == interview.state


# Every (state, command) pair, as in the table of decide.py: the events, or the error.

CONFLICT = "409"
COMMANDS: dict[str, c.Command] = {
    "update": c.Update({"name": "Eve"}),
    "start": c.Start(),
    "answer": c.Answer(0, "x"),
    "pause": c.Pause(),
    "resume": c.Resume(),
    "extend": c.Extend(5, "why"),
    "end": c.End(),
    "consent": c.Consent(),
    "new_link": c.NewLink(),
    "delete": c.Delete(),
    "expire": c.Expire(),
    "activate": c.Activate("a", "n", "crash"),
    "deactivate": c.Deactivate("drain"),
    "credit": c.Credit(T0 + 1_000, "storage_unavailable"),
    "abandon": c.Abandon(1_000),
    "park": c.Park("why", T0 + 1_500),
}
ALWAYS = {"new_link": ["link_renewed"], "delete": ["deleted"], "expire": []}
RUNNING = ALWAYS | {
    "update": CONFLICT,
    "start": [],
    "answer": ["question_closed", "question_opened"],
    "pause": ["paused"],
    "resume": [],
    "extend": ["extended"],
    "end": ["completed"],
    "consent": ["consent_given"],
    "activate": ["activated"],
    "deactivate": ["deactivated"],
    "credit": ["clock_credited"],
    "abandon": ["completed"],
    "park": ["parked"],
}
TABLE: dict[str, dict[str, Any]] = {
    "initialized": ALWAYS
    | dict.fromkeys(("answer", "pause", "resume", "extend", "activate"), CONFLICT)
    | {
        "update": ["updated"],
        "start": ["started", "question_opened"],
        "end": ["completed"],
        "consent": ["consent_given"],
        "deactivate": [],
        "credit": [],
        "abandon": [],
        "park": [],
    },
    "in_progress": RUNNING,
    "paused": RUNNING | {"answer": CONFLICT, "pause": [], "resume": ["resumed"], "credit": [], "abandon": []},
    "parked": RUNNING
    | dict.fromkeys(("answer", "activate", "pause", "resume"), CONFLICT)
    | {"deactivate": [], "abandon": [], "park": []},
    "completed": ALWAYS
    | dict.fromkeys(("update", "start", "answer", "pause", "resume", "extend", "consent", "activate"), CONFLICT)
    | {"end": [], "deactivate": [], "credit": [], "abandon": [], "park": []},
    "deleted": dict.fromkeys(COMMANDS, "404"),
}


def in_state(name: str) -> Interview:
    interview = Interview()
    if name in ("in_progress", "paused", "parked"):
        interview.started()
    if name == "paused":
        interview.do(c.Pause(), 1)
    if name == "parked":
        interview.write([{"type": "parked", "reason": "x", "since": T0 + 500}], T0 + 1_000)
    if name == "completed":
        interview.do(c.End(), 1)
    if name == "deleted":
        interview.do(c.Delete(), 1)
    return interview


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("state", TABLE)
def test_every_command_in_every_state(state: str, command: str) -> None:
    interview, expected = in_state(state), TABLE[state][command]
    if expected == CONFLICT:
        with pytest.raises(StateConflict) as caught:
            interview.do(COMMANDS[command], 2)
        assert caught.value.fields["allowed_actions"] == allowed_actions(interview.state)
    elif expected == "404":
        with pytest.raises(NotFound):
            interview.do(COMMANDS[command], 2)
    else:
        assert interview.do(COMMANDS[command], 2) == expected
