"""The live channel's rules in the client: a machine that is told what happens and when."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parallel_interview_client.errors import ApiError, ChannelClosed, Conflict, Ended, Unreachable
from parallel_interview_client.protocol import (
    FIRST_FRAME_SECONDS,
    LONGEST_PAUSE_SECONDS,
    LOST_CODE,
    NO_TOKEN_IN_TIME,
    PING_SECONDS,
    SILENT_SECONDS,
    Action,
    Drop,
    Machine,
    Phase,
    Send,
    Settle,
    Show,
)

LIMIT = 60.0


class Talk:
    """A machine and its clock, and what it has sent, shown and settled so far."""

    def __init__(
        self, token: str | None = "t", after: int | None = None, urls: tuple[str, ...] = ("http://a",)
    ) -> None:
        self.now = 1000.0
        self.machine = Machine(urls, "s1", token, "candidate", after, self.now, LIMIT, lambda: 1.0)
        self.sent: list[dict[str, Any]] = []
        self.shown: list[Any] = []
        self.settled: dict[str, Any] = {}
        self.dropped: list[int] = []

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(text):
                    self.sent.append(json.loads(text))
                case Show(frame):
                    self.shown.append(frame)
                case Settle(command_id, outcome):
                    assert command_id not in self.settled
                    self.settled[command_id] = outcome
                case Drop(code):
                    self.dropped.append(code)

    def connect(self, as_of: int = 5) -> None:
        self.do(self.machine.connected(self.now))
        self.get(type="state", as_of=as_of)

    def get(self, **frame: Any) -> None:
        self.do(self.machine.received(json.dumps(frame), self.now))

    def lose(self, code: int = 1006, reason: str = "") -> None:
        self.do(self.machine.closed(code, reason, self.now))

    def say(self, kind: Any, command_id: str, **members: Any) -> None:
        self.do(self.machine.command(kind, members, command_id, self.now))

    def wait(self, seconds: float) -> None:
        """Time passes, and the machine is woken whenever it has asked for it."""
        until = self.now + seconds
        while self.machine.phase is not Phase.OVER and self.machine.wake_at <= until:
            self.now = max(self.now, self.machine.wake_at)
            self.do(self.machine.tick(self.now))
        self.now = until

    def sleep(self, seconds: float) -> None:
        """Time passes, and nobody wakes the machine until then."""
        self.now += seconds
        self.do(self.machine.tick(self.now))

    @property
    def commands(self) -> list[str]:
        return [frame["command_id"] for frame in self.sent if "command_id" in frame]

    @property
    def pings(self) -> int:
        return sum(frame["type"] == "ping" for frame in self.sent)

    @property
    def ended(self) -> Ended | None:
        return self.machine.ended.why if self.machine.ended else None


# --- coming in and coming back


def test_the_first_frame_says_who_it_is_and_nothing_is_sent_before_the_first_state() -> None:
    talk = Talk()
    talk.say("start", "c1")
    talk.do(talk.machine.connected(talk.now))
    assert [frame["type"] for frame in talk.sent] == ["auth"] and talk.sent[0]["token"] == "t"
    talk.get(type="state", as_of=1)
    assert [frame["type"] for frame in talk.sent] == ["auth", "ping", "start"]


def test_it_comes_back_with_what_it_has_seen_last_as_the_same_page() -> None:
    talk = Talk()
    assert talk.machine.address == "ws://a/ws/interview?session_id=s1&role=candidate"
    talk.connect(as_of=5)
    talk.get(type="question", seq=8)
    talk.lose()
    assert talk.machine.address.endswith("&after=8")
    talk.connect(as_of=12)
    assert talk.machine.address.endswith("&after=8")
    first, second = (frame["page"] for frame in talk.sent if frame["type"] == "auth")
    assert first == second


def test_without_an_event_it_comes_back_with_what_the_first_state_was_made_of() -> None:
    talk = Talk()
    talk.do(talk.machine.connected(talk.now))
    talk.lose()
    assert "after" not in talk.machine.address
    talk.connect(as_of=5)
    talk.lose()
    assert talk.machine.address.endswith("after=5")


def test_without_a_token_nothing_is_said_first() -> None:
    talk = Talk(token=None)
    talk.do(talk.machine.connected(talk.now))
    assert talk.sent == []


def test_each_event_is_shown_once_and_frames_that_are_none_always() -> None:
    talk = Talk(after=3)
    talk.connect()
    for seq in (4, 4, 3, 6, 6, 5):
        talk.get(type="question", seq=seq)
    talk.lose()
    talk.connect()
    talk.get(type="question", seq=6)
    talk.get(type="question", seq=7)
    assert [frame["seq"] for frame in talk.shown if "seq" in frame] == [4, 6, 7]
    assert sum(frame["type"] == "state" for frame in talk.shown) == 2


def test_other_front_ends_are_tried_in_turn_and_pauses_grow() -> None:
    talk, seen, pauses = Talk(urls=("http://a", "https://b")), [], []
    for _ in range(8):
        seen.append(talk.machine.address.split("/")[2])
        talk.lose()
        pauses.append(round(talk.machine.connect_at - talk.now, 2))
    assert seen == ["a", "b"] * 4
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert talk.machine.address.startswith("ws://a/")


def test_after_a_while_that_it_held_a_loss_is_mended_at_once() -> None:
    talk = Talk()
    for _ in range(6):
        talk.lose()
    talk.connect()
    for _ in range(10):
        talk.wait(1.0)
        talk.get(type="pong")
    talk.lose(1012)
    assert talk.machine.connect_at - talk.now == pytest.approx(0.1)


# --- ends


@pytest.mark.parametrize(("code", "why"), [(one.value, one) for one in Ended if one.value > 0])
def test_it_stops_for_good_at_the_final_codes(code: int, why: Ended) -> None:
    talk = Talk()
    talk.connect()
    talk.say("draft", "c1")
    talk.say("end", "c2")
    talk.lose(code, "because")
    assert talk.ended is why and talk.machine.ended and talk.machine.ended.reason == "because"
    assert {type(outcome) for outcome in talk.settled.values()} == {ChannelClosed} and len(talk.settled) == 2
    talk.say("end", "c3")
    assert isinstance(talk.settled["c3"], ChannelClosed)
    assert talk.machine.tick(talk.now) == talk.machine.close() == talk.machine.closed(1006, "", talk.now) == []


@pytest.mark.parametrize("code", [1006, 1011, 1012, 1001, 4408])
def test_it_comes_back_after_any_other(code: int) -> None:
    talk = Talk()
    talk.connect()
    talk.lose(code)
    assert talk.ended is None and talk.machine.phase is Phase.AWAY


def test_a_token_that_came_too_late_is_sent_again() -> None:
    for token, ended in (("t", None), (None, Ended.UNAUTHORIZED)):
        talk = Talk(token)
        talk.do(talk.machine.connected(talk.now))
        talk.lose(4401, NO_TOKEN_IN_TIME)
        assert talk.ended is ended


def test_after_too_many_frames_it_waits_for_longest() -> None:
    talk = Talk()
    talk.connect()
    talk.lose(1008, "too many frames")
    assert talk.machine.connect_at - talk.now == LONGEST_PAUSE_SECONDS


def test_we_may_leave() -> None:
    talk = Talk()
    talk.connect()
    talk.say("draft", "c1")
    talk.do(talk.machine.close())
    assert talk.dropped == [1000] and talk.ended is Ended.BY_US
    assert talk.settled["c1"].why is Ended.BY_US


def test_it_gives_up_when_there_is_no_connection_for_too_long() -> None:
    talk = Talk()
    talk.connect()
    talk.lose()
    talk.wait(LIMIT - 1)
    talk.do(talk.machine.connected(talk.now))  # but no frame comes
    talk.wait(0.5)
    assert talk.ended is None
    talk.lose()
    talk.wait(1)
    assert talk.ended is Ended.UNREACHABLE


# --- commands


def test_a_command_is_sent_again_under_its_own_id_until_it_is_answered() -> None:
    talk = Talk()
    talk.connect()
    talk.say("answer", "c1", question_index=0, answer="x")
    talk.lose()
    talk.connect()
    talk.lose()
    talk.connect()
    assert talk.commands == ["c1"] * 3
    talk.get(type="ok", command_id="c1", version=4)
    assert talk.settled["c1"]["version"] == 4
    talk.get(type="ok", command_id="c1", version=4)
    talk.lose()
    talk.connect()
    assert talk.commands == ["c1"] * 3 and talk.shown[-1]["type"] == "state"


def test_commands_go_one_after_another_and_what_was_seen_beside_them() -> None:
    talk = Talk()
    talk.connect()
    for number, kind in enumerate(("answer", "proctoring_event", "draft", "proctoring_event", "end")):
        talk.say(kind, f"c{number}")
    assert talk.commands == ["c0", "c1"]
    talk.get(type="ok", command_id="c1")
    talk.get(type="ok", command_id="c0")
    talk.get(type="draft_saved", command_id="c2")
    assert talk.commands == ["c0", "c1", "c3", "c2", "c4"]


def test_a_command_that_is_refused_for_now_is_sent_again_when_asked() -> None:
    talk = Talk()
    talk.connect()
    talk.say("answer", "c1")
    talk.say("end", "c2")
    talk.get(type="error", command_id="c1", code="unavailable", status=503, detail="Full.", retry_after=2)
    talk.wait(1.9)
    assert talk.commands == ["c1"]
    talk.wait(0.2)
    assert talk.commands == ["c1", "c1"]
    talk.get(type="ok", command_id="c1")
    assert talk.commands == ["c1", "c1", "c2"]


def test_a_refusal_is_the_error_of_the_rest_call() -> None:
    talk = Talk()
    talk.connect()
    talk.say("answer", "c1")
    refusal = {"code": "state_conflict", "status": 409, "detail": "No.", "allowed_actions": ["end"]}
    talk.get(type="error", command_id="c1", current_status="in_progress", **refusal)
    assert isinstance(error := talk.settled["c1"], Conflict)
    assert (error.current_status, error.allowed_actions) == ("in_progress", ("end",))


def test_a_command_waits_no_longer_than_the_limit() -> None:
    talk = Talk()
    talk.connect()
    talk.say("answer", "c1")
    talk.wait(1)
    talk.say("answer", "c2")
    talk.get(type="error", command_id="c1", code="unavailable", status=503, detail="Full.", retry_after=1)
    for _ in range(round(LIMIT)):
        talk.get(type="pong")
        talk.wait(1)
    error = talk.settled["c1"]
    assert isinstance(error, Unreachable) and (error.key, error.attempts) == ("c1", 2)
    assert isinstance(error.last, ApiError) and error.last.detail == "Full."
    assert talk.commands[-1] == "c2"


def test_a_command_that_could_not_be_sent_waits_no_longer_either() -> None:
    talk = Talk()
    talk.say("answer", "c1")
    talk.wait(LIMIT / 2)
    talk.connect()
    talk.lose()
    talk.wait(LIMIT / 2)
    assert isinstance(talk.settled["c1"], Unreachable) and talk.ended is None


def test_an_answer_that_was_saved_is_shown_and_settles_nothing() -> None:
    talk = Talk()
    talk.connect()
    talk.say("answer", "c1")
    talk.get(type="answer_saved", seq=9, command_id="c1")
    assert talk.shown[-1]["seq"] == 9 and talk.settled == {}


@pytest.mark.parametrize("text", ["", "[]", "nothing", '{"type": 3}', b"\xff", '{"seq": 1}'])
def test_what_is_no_frame_is_passed_over(text: str | bytes) -> None:
    talk = Talk()
    talk.connect()
    assert talk.machine.received(text, talk.now) == []


# --- signs of life


def test_pings_go_out_while_it_is_open_and_nothing_else() -> None:
    talk = Talk()
    talk.connect()
    for _ in range(30):
        talk.wait(1)
        talk.get(type="pong")
    assert talk.pings == 1 + 30 // PING_SECONDS and talk.dropped == []


def test_silence_is_taken_for_a_loss() -> None:
    talk = Talk()
    talk.connect()
    talk.wait(SILENT_SECONDS - 0.1)
    assert talk.dropped == []
    talk.wait(0.2)
    assert talk.dropped == [LOST_CODE] and talk.machine.phase is Phase.AWAY
    assert talk.machine.connect_at > talk.now - 0.2


def test_after_a_sleep_of_ours_it_asks_once_more() -> None:
    talk = Talk()
    talk.connect()
    talk.sleep(600)
    assert talk.dropped == [] and talk.pings == 2
    talk.get(type="pong")
    talk.wait(PING_SECONDS)
    assert talk.dropped == []
    talk.sleep(600)
    talk.wait(PING_SECONDS + 0.1)
    assert talk.dropped == [LOST_CODE]


def test_a_connection_on_which_no_state_comes_is_given_up() -> None:
    talk = Talk()
    talk.do(talk.machine.connected(talk.now))
    talk.wait(FIRST_FRAME_SECONDS + 0.1)
    assert talk.dropped == [LOST_CODE] and talk.machine.phase is Phase.AWAY
