"""The live channel as a state machine. Pure: it is told what happens and when, and says what to do.

            connected           first `state`
    AWAY ────────────> GREETING ─────────────> OPEN
     ^ │ connect_at        │ closed, silent      │
     └─┴───────────────────┴─────────────────────┘
     AWAY, GREETING, OPEN ── a final close code, `close`, away for too long ──> OVER (`ended`)

Every event is shown once, in order: the machine comes back with `after`, the seq of the last one, and drops what it has
seen. Commands go one after another, and what the page saw beside them in a lane of its own, so that no still or event
holds up an answer. A command keeps its `command_id` and is sent again until its reply has come, so it has one outcome.

The server takes silence for a loss, and so does the machine: it sends `ping`, and drops a connection without a sign.
"""

from __future__ import annotations

import json
import random
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, cast
from urllib.parse import urlencode

from parallel_interview_client.errors import ApiError, ChannelClosed, ClientError, Ended, Unreachable, error_of
from parallel_interview_client.types import Frame, Json, Reply, StateFrame

Role = Literal["", "candidate", "observer"]
CommandType = Literal["start", "answer", "draft", "proctoring_event", "end"]

FINAL = {one.value: one for one in Ended if one.value > 0}
LOST_CODE = 4408
"""Says, should it still arrive, that this connection was taken for lost, and not left."""
OUR_FAULT = 1008
NO_TOKEN_IN_TIME = "no token came in time"  # nosec B105 # a sentence
"""The reason of a 4401 on a slow network: the token may arrive the next time."""
REPLIES = ("ok", "draft_saved", "error")

PING_SECONDS = 3.0
SILENT_SECONDS = 8.0
LATE_SECONDS = 1.0
"""When this process itself was held up for so long, frames may wait unread, and silence proves nothing."""
FIRST_FRAME_SECONDS = 12.0
"""Longer than the server waits for a token, so that its close code is seen."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
STABLE_SECONDS = 5.0


class Phase(Enum):
    AWAY = "away"
    GREETING = "greeting"
    OPEN = "open"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Send:
    text: str


@dataclass(frozen=True, slots=True)
class Show:
    frame: Frame


@dataclass(frozen=True, slots=True)
class Settle:
    """A command has come to its end: its reply, or why there is none."""

    command_id: str
    outcome: Reply | ClientError


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connection, without waiting for an answer."""

    code: int


Action = Send | Show | Settle | Drop


@dataclass(slots=True)
class Command:
    id: str
    text: str
    since: float
    attempts: int = 0
    not_before: float | None = None
    """It was refused for now."""
    last: ApiError | None = None


class Machine:
    """`limit_seconds`: how long there may be no connection, and how long a command may wait for its reply.

    Times are seconds of a clock that does not go back. Every method gives what is to be done, in order.
    """

    def __init__(
        self,
        urls: Sequence[str],
        session_id: str,
        token: str | None,
        role: Role,
        after: int | None,
        now: float,
        limit_seconds: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._urls = urls
        self._session_id = session_id
        self._token = token
        self._role = role
        self._last_seq = after
        self._limit = limit_seconds
        self._chance = chance
        self._page = str(uuid.uuid4())
        self._lanes: tuple[deque[Command], deque[Command]] = (deque(), deque())
        self._failures = 0
        self._problem = "no connection was made"
        self._turn = 0
        self._away_since = now
        self._since = now
        self._heard_at = now
        self._ping_at = now
        self._asked_at: float | None = None
        self.connect_at = now
        self.phase = Phase.AWAY
        self.ended: ChannelClosed | None = None

    @property
    def address(self) -> str:
        """Where to connect to now; each attempt that fails leads to the next of the addresses."""
        asked: dict[str, str] = {"session_id": self._session_id}
        asked |= {"role": self._role} if self._role else {}
        asked |= {"after": str(self._last_seq)} if self._last_seq is not None else {}
        url = self._urls[self._turn % len(self._urls)]
        return f"{url.replace('http', 'ws', 1)}/ws/interview?{urlencode(asked)}"

    @property
    def wake_at(self) -> float:
        """When `tick` has something to do."""
        waits = [one.since + self._limit for lane in self._lanes for one in lane]
        if self.phase is Phase.AWAY:
            return min(waits, default=self._away_since + self._limit)
        if self.phase is Phase.GREETING:
            return min([self._since + FIRST_FRAME_SECONDS, *waits])
        again = [lane[0].not_before for lane in self._lanes if lane and lane[0].not_before is not None]
        silent = [] if self._asked_at is None else [max(self._heard_at + SILENT_SECONDS, self._asked_at + PING_SECONDS)]
        return min([self._ping_at, *silent, *again, *waits])

    # --- what happens to the connection

    def connected(self, now: float) -> list[Action]:
        self.phase = Phase.GREETING
        self._since = self._heard_at = now
        if self._token is None:
            return []
        return [Send(json.dumps({"type": "auth", "token": self._token, "page": self._page}))]

    def closed(self, code: int, reason: str, now: float) -> list[Action]:
        """The connection has ended, or could not be made (1006)."""
        if self.phase is Phase.OVER:
            return []
        in_time = not (reason == NO_TOKEN_IN_TIME and self._token is not None)
        if code in FINAL and in_time:
            return self._end(ChannelClosed(FINAL[code], code, reason))
        self._problem = reason or f"closed with {code}"
        return self._lost(now, LONGEST_PAUSE_SECONDS if code == OUR_FAULT else 0.0)

    def close(self) -> list[Action]:
        """We have had enough."""
        if self.phase is Phase.OVER:
            return []
        there = [Drop(1000)] if self.phase is not Phase.AWAY else []
        return [*there, *self._end(ChannelClosed(Ended.BY_US))]

    def received(self, text: str | bytes, now: float) -> list[Action]:
        self._heard_at = now
        self._asked_at = None
        told = _told(text)
        if told is None or self.phase is Phase.OVER or told["type"] == "pong":
            return []
        if told["type"] in REPLIES and "command_id" in told:
            return self._replied(told, now)
        frame = cast(Frame, told)
        shown: list[Action] = [Show(frame)] if self._is_news(frame) else []
        if frame["type"] == "state" and self.phase is Phase.GREETING:
            return [*shown, *self._open(frame, now)]
        return shown

    def tick(self, now: float) -> list[Action]:
        """Time has passed. To be called at `wake_at`, or later."""
        if self.phase is Phase.OVER:
            return []
        actions = self._give_up(now)
        if self.phase is Phase.AWAY:
            if now - self._away_since >= self._limit:
                return actions + self._end(ChannelClosed(Ended.UNREACHABLE, None, self._problem))
            return actions
        if self.phase is Phase.GREETING:
            if now - self._since >= FIRST_FRAME_SECONDS:
                return [*actions, Drop(LOST_CODE), *self._lost(now)]
            return actions
        if self._is_silent(now):
            if now - self._heard_at - SILENT_SECONDS < LATE_SECONDS:
                return [*actions, Drop(LOST_CODE), *self._lost(now)]
            self._heard_at = now - SILENT_SECONDS + PING_SECONDS  # we were not there to hear: ask once more
            return [*actions, *self._ping(now)]
        if now >= self._ping_at:
            actions += self._ping(now)
        return [*actions, *self._send_due(now)]

    # --- commands

    def command(self, kind: CommandType, members: Mapping[str, object], command_id: str, now: float) -> list[Action]:
        """Have a command done, now or once the channel is open. A Settle says what became of it."""
        if self.ended is not None:
            return [Settle(command_id, self.ended)]
        text = json.dumps({**members, "type": kind, "command_id": command_id}, ensure_ascii=False, allow_nan=False)
        lane = self._lanes[kind == "proctoring_event"]
        lane.append(Command(command_id, text, now))
        return self._transmit(lane[0]) if len(lane) == 1 and self.phase is Phase.OPEN else []

    def _transmit(self, command: Command) -> list[Action]:
        command.not_before = None
        command.attempts += 1
        return [Send(command.text)]

    def _send_due(self, now: float) -> Iterator[Action]:
        for lane in self._lanes:
            if lane and lane[0].not_before is not None and now >= lane[0].not_before:
                yield from self._transmit(lane[0])

    def _replied(self, told: Json, now: float) -> list[Action]:
        lane = next((lane for lane in self._lanes if lane and lane[0].id == told["command_id"]), None)
        if lane is None:
            return []
        if told["type"] == "error":
            status, wait = told.get("status"), told.get("retry_after")
            seconds = float(wait) if isinstance(wait, int | float) else None
            error = error_of(status if isinstance(status, int) else 500, told, seconds)
            if seconds is not None:
                lane[0].not_before, lane[0].last = now + min(seconds, LONGEST_PAUSE_SECONDS), error
                return []
            outcome: Reply | ClientError = error
        else:
            outcome = cast(Reply, told)
        settled = Settle(lane.popleft().id, outcome)
        return [settled, *(self._transmit(lane[0]) if lane else [])]

    def _give_up(self, now: float) -> list[Action]:
        """Commands that have waited for too long."""
        actions: list[Action] = []
        for lane in self._lanes:
            late = [one for one in lane if now - one.since >= self._limit]
            for one in late:
                lane.popleft()
                problem = str(one.last) if one.last is not None else "no reply came over the live channel"
                outcome = Unreachable(problem, one.attempts, now - one.since, one.id, one.last)
                actions.append(Settle(one.id, outcome))
            if late and lane and self.phase is Phase.OPEN:
                actions += self._transmit(lane[0])
        return actions

    # --- the parts

    def _open(self, frame: StateFrame, now: float) -> list[Action]:
        """The first `state` says that we are in: now commands can go, the unanswered ones first."""
        self.phase = Phase.OPEN
        self._since = now
        if self._last_seq is None:
            self._last_seq = frame["as_of"]
        return [*self._ping(now), *(one for lane in self._lanes if lane for one in self._transmit(lane[0]))]

    def _is_news(self, frame: Frame) -> bool:
        seq = frame.get("seq")
        if seq is None:
            return True
        if self._last_seq is not None and seq <= self._last_seq:
            return False
        self._last_seq = seq
        return True

    def _lost(self, now: float, at_least: float = 0.0) -> list[Action]:
        if self.phase is Phase.OPEN:
            self._away_since = now
            if now - self._since >= STABLE_SECONDS:
                self._failures = 0
        self.phase = Phase.AWAY
        self._asked_at = None
        self._turn += 1
        pause = min(FIRST_PAUSE_SECONDS * 2 ** min(self._failures, 16), LONGEST_PAUSE_SECONDS)
        self._failures += 1
        self.connect_at = now + max(pause * (0.5 + self._chance() / 2), at_least)
        return []

    def _end(self, why: ChannelClosed) -> list[Action]:
        self.phase = Phase.OVER
        self.ended = why
        left = [one.id for lane in self._lanes for one in lane]
        for lane in self._lanes:
            lane.clear()
        return [Settle(command_id, why) for command_id in left]

    def _ping(self, now: float) -> list[Action]:
        self._ping_at = now + PING_SECONDS
        if self._asked_at is None:
            self._asked_at = now
        return [Send(json.dumps({"type": "ping"}))]

    def _is_silent(self, now: float) -> bool:
        asked = self._asked_at is not None and now - self._asked_at >= PING_SECONDS
        return asked and now - self._heard_at >= SILENT_SECONDS


def _told(text: str | bytes) -> Json | None:
    """A frame, if it is one; what a newer server may send beside is not ours to judge."""
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    told = cast(Json, found) if isinstance(found, dict) else {}
    return told if isinstance(told.get("type"), str) else None
