"""The candidate's connections, and the clock that stands still while one is lost through no fault of theirs.

    lost for a reason of the network's or ours   the clock stops, if no other connection is there
    the candidate is back, or sends a command    it goes on; the time is credited as `network`
    the cap is reached                           it goes on; the candidate may still be away

The cap is on the whole interview: so many ms, and so many times, beside those that are ours to answer for. Nothing
stops while the clock is paused, and a connection that the candidate has closed stops nothing. Answers go through the
live channel: where there was one, its loss stops the clock even if the candidate is still in the room.
"""

from __future__ import annotations

from typing import Any

from orchestrator.interview.commands import NoteConnected, NoteDisconnected
from orchestrator.interview.snapshot import Draft
from orchestrator.interview.state import State

Event = dict[str, Any]
"""One event: `type` and its own fields, all JSON values."""

NETWORK = "network"
"""The cause in the ledger."""
MAX_STOPS = 3

NOT_THE_CANDIDATES_DOING = frozenset(
    {
        "server_shutdown",
        "state_mismatch",
        "join_failure",
        "migration",
        "signal_close",
        "connection_timeout",
        "media_failure",
        "not_in_room",
        "no_heartbeat",
    }
)
"""LiveKit's names (DisconnectReason) in lower case, and two of ours. `not_in_room`: it was gone when we looked, and no
news of it had reached us. `no_heartbeat`: a live channel gave no answer any more."""
OURS = frozenset({"server_shutdown"})
"""What is not the network's doing either: it does not count as one of the times that the clock may stop."""
UNNOTICED_MS = {"connection_timeout": 20_000}
"""LiveKit gives a silent connection up 21 s after the last packet (measured, server 1.11)."""
SECOND_DEVICE = "duplicate_identity"
"""The candidate's token was used for another connection: a second device or tab, or the same client, which came back
before LiveKit had noticed that it was gone (seen after 17 s without network)."""

EVENT_TYPES = {
    "livekit": ("participant_joined", "participant_left", "connection_lost"),
    "channel": ("channel_opened", "channel_closed", "channel_lost"),
}
JOINED, LEFT, LOST = (frozenset(types) for types in zip(*EVENT_TYPES.values(), strict=True))


def connected(state: State, command: NoteConnected, now: int) -> list[Event]:
    """The candidate is there, unless that connection has been seen to end before, or a newer one took its place."""
    presence = state.presence
    replaced = command.connection in presence.replaced and not command.listed
    over = command.connection in presence.gone or replaced
    known = (command.source, command.connection) in presence.here or over
    back = clock_goes_on(state, now)
    if known or state.status == "completed" or not (presence.takes_more or back):
        return []
    return [{"type": EVENT_TYPES[command.source][0], "connection": command.connection}, *back]


def disconnected(state: State, command: NoteDisconnected, now: int, draft: Draft | None = None) -> list[Event]:
    """A connection has ended, perhaps before it was seen to begin. The draft tells when the candidate last typed."""
    presence = state.presence
    known = (command.source, command.connection) in presence.here
    if state.status == "completed" or (not known and command.connection in presence.gone):
        return []
    lost = command.reason in NOT_THE_CANDIDATES_DOING
    event: Event = {
        "type": EVENT_TYPES[command.source][2 if lost else 1],
        "connection": command.connection,
        "reason": command.reason,
    }
    events = [event]
    if lost:
        event["credit_ms"] = command.credit_ms
        if presence.leaves_alone(command.source, command.connection) and not state.paused:
            since = command.at - UNNOTICED_MS.get(command.reason, 0)
            typed_at = draft.at if draft is not None and state.open is not None else 0
            ours = command.reason in OURS
            events += _clock_stops(state, max(since, typed_at), command.credit_ms, now, ours=ours)
    if command.reason == SECOND_DEVICE:
        events.append({"type": "proctoring_event", "event": "second_device", "source": command.source})
    matters = any(e["type"] == "clock_stopped" for e in events)
    return events if matters or known or presence.takes_more else []


def still_lost(state: State, now: int) -> list[Event]:
    """The clock would begin to run, or go on, at `now`: it stands while the connection is lost.

    That is the same loss, so it does not count as another time.
    """
    if not state.presence.lost:
        return []
    question = state.open
    if question is not None and (question.lost_at is not None or question.remaining_ms(state.clock_time(now)) <= 0):
        return []
    limit = _limit_ms(state, state.presence.credit_ms)
    return [{**_stopped(now, limit), "again": True}] if limit > 0 else []


def lost_before(state: State, now: int) -> list[Event]:
    """The next question is opened at `now`: its clock stands if the connection was lost in the last seconds of the one
    before, when there was no time left that could stand still."""
    presence = state.presence
    limit = _limit_ms(state, presence.credit_ms)
    return [_stopped(now, limit)] if presence.lost and limit > 0 and presence.stops < MAX_STOPS else []


def sign(state: State, now: int) -> list[Event]:
    """What a sign of the candidate comes to, beside what it is: the clock goes on, and they are not lost any more."""
    goes_on = clock_goes_on(state, now)
    return goes_on or ([{"type": "candidate_seen"}] if state.presence.lost else [])


def clock_goes_on(state: State, now: int, *, back: bool = True) -> list[Event]:
    """The end of a stop at `now`, or earlier if its cap was reached earlier; [] if the clock does not stand.

    `back`: because the candidate is.
    """
    question = state.open
    if question is None or question.lost_at is None:
        return []
    until = max(question.lost_at, min(state.clock_time(now), question.lost_at + question.lost_limit_ms))
    return [
        {
            "type": "clock_credited",
            "ms": until - question.lost_at,
            "cause": NETWORK,
            "until": until,
            "back": back,
        }
    ]


def credit_left_ms(state: State, credit_ms: int) -> int:
    """For how long the clock would stand still if the connection were lost now, of `credit_ms` in all."""
    stands = state.open is not None and state.open.lost_at is not None
    return max(0, _limit_ms(state, credit_ms)) if stands or state.presence.stops < MAX_STOPS else 0


def _clock_stops(state: State, since: int, credit_ms: int, now: int, *, ours: bool) -> list[Event]:
    """The clock stops at `since`, or at the earliest time after it that has not been dealt with."""
    question, presence = state.open, state.presence
    if question is None or question.lost_at is not None or state.parked is not None:
        return []
    since = min(now, max(since, question.opened_at, state.clock_settled_at))
    limit = _limit_ms(state, credit_ms)
    if limit <= 0 or question.remaining_ms(since) <= 0 or (presence.stops >= MAX_STOPS and not ours):
        return []
    return [_stopped(since, limit) | ({"again": True} if ours else {})]


def _limit_ms(state: State, credit_ms: int) -> int:
    return credit_ms - sum(line.ms for line in state.ledger if line.cause == NETWORK)


def _stopped(since: int, limit_ms: int) -> Event:
    return {"type": "clock_stopped", "cause": NETWORK, "since": since, "limit_ms": limit_ms}
