"""The candidates' connections to one front end, and what is noted of them in their sessions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from actors import channels
from actors.channels import (
    ALIVE_SECONDS,
    CLOSE_SECONDS,
    FORGET_MS,
    FRONT_END,
    GONE_MS,
    LIVELY_MS,
    LOOK_SECONDS,
    NOTE_SECONDS,
    SILENCE_MS,
    Channels,
    Connection,
    note_dead_front_ends,
)
from orchestrator.errors import (
    NotFound,
    OrchestratorError,
    OutcomeUnknown,
    StateConflict,
    TooManyRequests,
    Unavailable,
)
from orchestrator.interview import commands as c
from orchestrator.interview.presence import MAX_STOPS, credit_left_ms
from orchestrator.interview.state import State
from orchestrator.interview.view import event_views
from orchestrator.session import Reply, Request, Session
from tests.unit.api_world import virtual
from tests.unit.test_session_log import held
from tests.unit.virtual import VirtualLoop
from tests.unit.world import MemoryJournal, new_session

CAP = 180_000


def now() -> int:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.wall_ms()


class Proofs:
    """The proofs of life in the storage, and which sessions a front end holds. `failing`: what the next calls of a
    name raise."""

    def __init__(self) -> None:
        self.at: dict[str, int] = {}
        self.held: dict[str, list[str]] = {}
        self.failing: dict[str, list[Exception]] = {}
        self.limits: list[int] = []
        self.forgotten: list[str] = []

    def _check(self, name: str) -> None:
        if self.failing.get(name):
            raise self.failing[name].pop(0)

    async def alive(self, holder: str, at: int) -> None:
        self._check("alive")
        self.at[holder] = at

    async def last_alive(self, holder: str) -> int | None:
        self._check("last_alive")
        return self.at.get(holder)

    async def held_by_front_end(self, front_end: str, limit: int) -> list[str]:
        self.limits.append(limit)
        return self.held.get(front_end, [])[:limit]

    async def forget_alive(self, holder: str) -> None:
        self.forgotten.append(holder)


class Sessions:
    """What commands come to: over a journal in memory, by the real rules. `sent`: all that was asked, with when.

    `failing`: what the next commands raise; `reading`: the same of reads; `slow`: seconds that a command takes.
    """

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.store = Proofs()
        self.settings = SimpleNamespace(network_credit_ms=CAP)
        self.sent: list[tuple[int, c.NoteConnected | c.NoteDisconnected]] = []
        self.failing: list[Exception] = []
        self.reading: list[Exception] = []
        self.slow = 0.0

    async def read(self, session_id: str) -> State:
        if self.reading:
            raise self.reading.pop(0)
        return (await Session.load(self.journal, session_id)).state

    async def send(self, session_id: str, command: c.Command, caller: c.Caller, command_id: str | None = None) -> Reply:
        assert isinstance(command, c.NoteConnected | c.NoteDisconnected)
        assert (caller.role, command_id, command.source) == ("system", None, "channel")
        self.sent.append((now(), command))
        await asyncio.sleep(self.slow)
        if self.failing:
            raise self.failing.pop(0)
        session = await Session.load(self.journal, session_id)
        return await session.execute(Request(command, caller, now()), now())

    @property
    def noted(self) -> list[str]:
        """`opened`, or why it was closed, in the order in which it was asked for."""
        return ["opened" if isinstance(n, c.NoteConnected) else n.reason for _, n in self.sent]

    async def events(self, *types: str, session_id: str = "s1") -> list[dict[str, Any]]:
        loaded = await self.journal.load(session_id)
        return [e for e in event_views(loaded.entries if loaded else []) if not types or e["type"] in types]

    async def of_channels(self) -> list[tuple[str, str]]:
        """(type, connection) of what the journal says of live channels."""
        return [
            (e["type"], e["connection"]) for e in await self.events("channel_opened", "channel_closed", "channel_lost")
        ]


async def interview(*, started: bool = True, **changes: Any) -> Sessions:
    """A session whose first question is open since now."""
    sessions = Sessions()
    await new_session(sessions.journal, at=now(), **{"text_question_timer": 3_600, **changes})
    if started:
        await held(sessions.journal, at=now())
    return sessions


class Page:
    """A candidate's page that is connected."""

    def __init__(self, here: Channels, session_id: str = "s1") -> None:
        self.replaced = 0
        self.connection: Connection = here.open(session_id, self._on_replaced)

    @property
    def name(self) -> str:
        return self.connection.name

    def _on_replaced(self) -> None:
        self.replaced += 1


async def settled() -> None:
    """Let what is noted in the background be noted."""
    await asyncio.sleep(0.01)


# A connection's life


@virtual
async def test_a_connection_is_noted_as_opened() -> None:
    sessions = await interview()
    here = Channels(sessions)
    page = Page(here)
    await settled()
    assert [n for _, n in sessions.sent] == [c.NoteConnected(page.name, "channel")]
    assert page.name.startswith(f"{here.front_end}:") and here.front_end.startswith(FRONT_END)
    assert (await sessions.read("s1")).presence.front_end == here.front_end
    assert not page.connection.noted.is_set() and page.replaced == 0


@pytest.mark.parametrize(
    ("reason", "types"),
    [
        ("client_initiated", ["channel_closed"]),
        ("participant_removed", ["channel_closed"]),
        ("signal_close", ["channel_lost", "clock_stopped"]),
        ("server_shutdown", ["channel_lost", "clock_stopped"]),
    ],
)
@virtual
async def test_its_end_is_noted_with_when_and_why(reason: str, types: list[str]) -> None:
    sessions = await interview()
    page = Page(Channels(sessions))
    await asyncio.sleep(20)
    page.connection.end(reason)
    ended_at = now()
    await settled()
    assert sessions.sent[1:] == [(ended_at, c.NoteDisconnected(page.name, reason, ended_at, CAP, "channel"))]
    assert [e["type"] for e in await sessions.events()][4:] == ["channel_opened", *types]
    assert page.connection.noted.is_set() and page.replaced == 0
    page.connection.end("client_initiated")
    await settled()
    assert len(sessions.sent) == 2, "it ends once"


@virtual
async def test_an_end_may_be_known_to_have_been_earlier() -> None:
    sessions = await interview()
    page = Page(Channels(sessions))
    await asyncio.sleep(20)
    page.connection.end("signal_close", now() - 5_000)
    await settled()
    assert sessions.sent[-1][1] == c.NoteDisconnected(page.name, "signal_close", now() - 5_010, CAP, "channel")


@pytest.mark.parametrize(("quiet", "before"), [(0, 0), (3_000, 3_000), (8_999, 8_999), (60_000, SILENCE_MS)])
@virtual
async def test_one_that_gave_no_answer_was_lost_since_its_last_sign(quiet: int, before: int) -> None:
    """Its last frame, but no earlier than pings would have found out: it answered those before."""
    sessions = await interview()
    page = Page(Channels(sessions))
    await asyncio.sleep(10)
    page.connection.heard(ping=False)
    await asyncio.sleep(quiet / 1000)
    found_at = now()
    page.connection.lost_sign()
    await settled()
    [(_, lost)] = sessions.sent[1:]
    assert lost == c.NoteDisconnected(page.name, "no_heartbeat", found_at - before, CAP, "channel")
    [stopped] = await sessions.events("clock_stopped")
    assert stopped["since"] == found_at - before


@virtual
async def test_it_may_end_before_it_is_noted_as_opened() -> None:
    sessions = await interview()
    sessions.slow = 5
    page = Page(Channels(sessions))
    await asyncio.sleep(1)
    page.connection.end("signal_close")
    ended_at = now()
    await asyncio.sleep(10)
    assert sessions.noted == ["opened", "signal_close"]
    assert sessions.sent[1] == (
        ended_at + 4_000,
        c.NoteDisconnected(page.name, "signal_close", ended_at, CAP, "channel"),
    )


# One takes the place of another


@virtual
async def test_a_newer_one_here_takes_the_place_of_the_older() -> None:
    sessions = await interview()
    here = Channels(sessions)
    older = Page(here)
    await asyncio.sleep(60)
    newer = Page(here)
    await settled()
    assert older.replaced >= 1 and newer.replaced == 0
    assert older.connection.noted.is_set()
    assert sessions.noted == ["opened", "duplicate_identity", "opened"]
    assert await sessions.of_channels() == [
        ("channel_opened", older.name),
        ("channel_closed", older.name),
        ("channel_opened", newer.name),
    ]
    assert [e["event"] for e in await sessions.events("proctoring_event")] == ["second_device"]
    assert (await sessions.read("s1")).presence.here == (("channel", newer.name),)


@pytest.mark.parametrize(
    ("pings", "quiet_ms", "reason"),
    [
        (False, 60_000, "duplicate_identity"),  # a browser's answers to pings are not seen here
        (True, 0, "duplicate_identity"),
        (True, LIVELY_MS, "duplicate_identity"),
        (True, LIVELY_MS + 1, "no_heartbeat"),
        (True, 60_000, "no_heartbeat"),
    ],
)
@virtual
async def test_an_older_one_that_has_fallen_silent_was_lost(pings: bool, quiet_ms: int, reason: str) -> None:
    sessions = await interview()
    here = Channels(sessions)
    older = Page(here)
    await asyncio.sleep(20)
    older.connection.heard(ping=pings)
    await asyncio.sleep(quiet_ms / 1000)
    back_at = now()
    Page(here)
    await settled()
    assert sessions.noted == ["opened", reason, "opened"] and older.replaced >= 1
    lost = sessions.sent[1][1]
    assert isinstance(lost, c.NoteDisconnected)
    silent = min(quiet_ms, SILENCE_MS) if reason == "no_heartbeat" else 0
    assert lost.at == back_at - silent
    ledger = [(line.cause, line.ms) for line in (await sessions.read("s1")).ledger]
    assert ledger == ([("network", silent)] if silent else [])


@virtual
async def test_the_same_page_that_is_back_at_once_is_no_second_device() -> None:
    sessions = await interview()
    here = Channels(sessions)
    older = here.open("s1", lambda: None, "my page")
    older.heard(ping=True)
    await settled()
    here.open("s1", lambda: None, "my page")
    await settled()
    assert sessions.noted == ["opened", "replaced", "opened"]
    assert await sessions.events("proctoring_event") == []
    here.open("s1", lambda: None, "another page")
    await settled()
    assert [e["event"] for e in await sessions.events("proctoring_event")] == ["second_device"]


@virtual
async def test_one_that_ended_before_it_could_be_noted_takes_nobodys_place() -> None:
    """It could not be noted at first; meanwhile the candidate has come back at another front end."""
    sessions = await interview()
    page = Page(Channels(sessions))
    sessions.failing = [Unavailable("away")] * 2
    page.connection.end("signal_close")
    await sessions_elsewhere(sessions)
    await asyncio.sleep(10)
    assert (await sessions.read("s1")).presence.here == (("channel", f"{LIVES}:1"),)
    assert await sessions.events("clock_stopped") == []


async def sessions_elsewhere(sessions: Any) -> None:
    """A connection at another front end is noted, past what fails here."""
    failing, sessions.failing = sessions.failing, []
    await sessions.send("s1", c.NoteConnected(f"{LIVES}:1", "channel"), channels.CHANNEL)
    sessions.failing = failing


@virtual
async def test_channels_of_a_session_are_opened_no_faster_than_anybody_needs() -> None:
    here = Channels(await interview())
    for _ in range(int(channels.OPENED_AT_ONCE)):
        here.admit("s1")
    with pytest.raises(TooManyRequests):
        here.admit("s1")
    here.admit("s2")


@virtual
async def test_one_that_pinged_is_known_to_ping() -> None:
    connection = Connection("s1", "x", None, lambda: None)
    connection.heard(ping=True)
    connection.heard(ping=False)
    await asyncio.sleep(LIVELY_MS / 1000 + 1)
    connection.give_way()
    assert (await connection.ended())[0] == "no_heartbeat"


@virtual
async def test_the_end_of_an_older_one_is_noted_first_even_if_it_takes_its_time() -> None:
    sessions = await interview()
    here = Channels(sessions)
    older = Page(here)
    await asyncio.sleep(20)
    older.connection.end("signal_close")
    ended_at = now()
    sessions.failing = [Unavailable("away")] * 4
    await asyncio.sleep(0.5)
    newer = Page(here)
    await asyncio.sleep(30)
    assert [name for name, _ in await sessions.of_channels()] == ["channel_opened", "channel_lost", "channel_opened"]
    assert (await sessions.of_channels())[2][1] == newer.name
    [stopped] = await sessions.events("clock_stopped")
    assert stopped["since"] == ended_at, "its own end, and not that it gave way"


@virtual
async def test_of_three_in_a_row_each_makes_room_for_the_next() -> None:
    sessions = await interview()
    sessions.slow = 1
    here = Channels(sessions)
    pages = [Page(here) for _ in range(3)]
    await asyncio.sleep(30)
    names = [page.name for page in pages]
    assert sessions.noted == ["opened", "duplicate_identity", "duplicate_identity", "opened"]
    assert [n.connection for _, n in sessions.sent] == [names[0], names[0], names[1], names[2]]
    assert [page.replaced > 0 for page in pages] == [True, True, False]


@virtual
async def test_one_that_has_gone_is_not_told_of_the_next() -> None:
    sessions = await interview()
    here = Channels(sessions)
    older = Page(here)
    await settled()
    older.connection.end("client_initiated")
    await settled()
    Page(here)
    await settled()
    assert older.replaced == 0 and sessions.noted == ["opened", "client_initiated", "opened"]


@virtual
async def test_sessions_do_not_know_of_each_other() -> None:
    sessions = await interview()
    await new_session(sessions.journal, "s2", at=now())
    here = Channels(sessions)
    one, two = Page(here), Page(here, "s2")
    await settled()
    assert one.replaced == two.replaced == 0 and sessions.noted == ["opened"] * 2
    two.connection.end("client_initiated")
    await settled()
    assert (await sessions.read("s1")).presence.here == (("channel", one.name),)


# Other front ends


async def held_elsewhere(sessions: Sessions, silent_ms: int | None) -> str:
    """A connection that another front end holds, which gave its last proof of life so long ago."""
    front_end = f"{FRONT_END}other"
    await sessions.send("s1", c.NoteConnected(f"{front_end}:1", "channel"), c.Caller("channel", "system"))
    sessions.sent.clear()
    if silent_ms is not None:
        sessions.store.at[front_end] = now() - silent_ms
    return f"{front_end}:1"


@virtual
async def test_what_a_dead_front_end_held_was_lost_since_its_last_proof_of_life() -> None:
    sessions = await interview()
    await asyncio.sleep(100)
    before = await held_elsewhere(sessions, 30_000)
    page = Page(Channels(sessions))
    await settled()
    assert [n for _, n in sessions.sent] == [
        c.NoteDisconnected(before, "server_shutdown", now() - 10 - 30_000, CAP, "channel"),
        c.NoteConnected(page.name, "channel"),
    ]
    state = await sessions.read("s1")
    assert [(line.cause, line.ms) for line in state.ledger] == [("network", 30_000)]
    assert state.presence.stops == 0 and state.presence.here == (("channel", page.name),)


@pytest.mark.parametrize("silent_ms", [0, 900, None])
@virtual
async def test_another_front_end_that_lives_learns_from_the_journal(silent_ms: int | None) -> None:
    sessions = await interview()
    before = await held_elsewhere(sessions, silent_ms)
    page = Page(Channels(sessions))
    await asyncio.sleep(1 - (silent_ms or 0) / 1000)
    if silent_ms is not None:
        sessions.store.at[f"{FRONT_END}other"] = now()
    await asyncio.sleep(LOOK_SECONDS)
    assert sessions.noted == ["opened"]
    assert (await sessions.read("s1")).presence.replaced == (before,)
    assert (await sessions.read("s1")).presence.here == (("channel", page.name),)


@pytest.mark.parametrize("silent_ms", [0, 1_000, GONE_MS])
@virtual
async def test_of_one_that_died_just_now_it_is_waited_for_the_next_proof(silent_ms: int) -> None:
    """Whoever comes back sooner than that is credited all the same."""
    sessions = await interview()
    await asyncio.sleep(100)
    died_at = now() - silent_ms
    before = await held_elsewhere(sessions, silent_ms)
    page = Page(Channels(sessions))
    await asyncio.sleep(3)
    assert [n for _, n in sessions.sent] == [
        c.NoteDisconnected(before, "server_shutdown", died_at, CAP, "channel"),
        c.NoteConnected(page.name, "channel"),
    ]
    [line] = (await sessions.read("s1")).ledger
    assert line.cause == "network" and GONE_MS <= line.ms <= GONE_MS + 300


@virtual
async def test_a_front_end_is_gone_only_after_some_silence() -> None:
    sessions = await interview()
    await held_elsewhere(sessions, GONE_MS + 1)
    Page(Channels(sessions))
    await settled()
    assert sessions.noted == ["server_shutdown", "opened"]


@virtual
async def test_a_connection_to_livekit_is_no_front_ends() -> None:
    sessions = await interview()
    session = await Session.load(sessions.journal, "s1")
    await session.execute(Request(c.NoteConnected("PA_1"), c.Caller("livekit", "system"), now()), now())
    sessions.store.at["PA_1"] = 0
    Page(Channels(sessions))
    await settled()
    assert sessions.noted == ["opened"]


@virtual
async def test_a_front_end_gives_proofs_of_life_from_its_first_connection_on() -> None:
    sessions = await interview()
    here = Channels(sessions)
    await asyncio.sleep(5)
    assert sessions.store.at == {}
    Page(here)
    sessions.store.failing["alive"] = [Unavailable("away"), RuntimeError("a fault")]
    await asyncio.sleep(2.5 * ALIVE_SECONDS)
    assert sessions.store.at == {here.front_end: now() - 500}
    await asyncio.sleep(60)
    assert now() - sessions.store.at[here.front_end] <= ALIVE_SECONDS * 1000
    await here.close()
    closed_at = now()
    await asyncio.sleep(5)
    assert sessions.store.at[here.front_end] <= closed_at


@virtual
async def test_a_front_end_does_not_take_itself_for_dead() -> None:
    """Though it could not give proofs of life, nor note that the connection before had ended."""
    sessions = await interview()
    here = Channels(sessions)
    page = Page(here)
    await settled()
    sessions.failing = [Unavailable("away")] * 1_000
    sessions.store.failing["alive"] = [Unavailable("away")] * 1_000
    page.connection.end("client_initiated")
    await asyncio.sleep(NOTE_SECONDS + 5)
    sessions.failing.clear()
    sessions.sent.clear()
    Page(here)
    await settled()
    assert now() - sessions.store.at[here.front_end] > GONE_MS and sessions.noted == ["opened"]


@virtual
async def test_front_ends_have_names_of_their_own() -> None:
    assert len({Channels(Sessions()).front_end for _ in range(5)}) == 5


# While the storage is away


@pytest.mark.parametrize("error", [Unavailable("away"), OutcomeUnknown("?"), StateConflict("?")])
@virtual
async def test_notes_are_tried_again_in_their_order(error: OrchestratorError) -> None:
    sessions = await interview()
    sessions.failing = [error] * 6
    page = Page(Channels(sessions))
    await asyncio.sleep(10)
    page.connection.end("client_initiated")
    await asyncio.sleep(10)
    assert sessions.noted == ["opened"] * 7 + ["client_initiated"]
    assert [t for t, _ in await sessions.of_channels()] == ["channel_opened", "channel_closed"]
    pauses = [later[0] - earlier[0] for earlier, later in zip(sessions.sent[:6], sessions.sent[1:7], strict=True)]
    assert pauses == [100, 200, 400, 800, 1_600, 2_000]


@virtual
async def test_a_note_is_given_up_after_a_while_and_the_end_is_tried_all_the_same() -> None:
    sessions = await interview()
    page = Page(Channels(sessions))
    sessions.failing = [Unavailable("away")] * 1_000
    await asyncio.sleep(NOTE_SECONDS + 5)
    tries = len(sessions.sent)
    await asyncio.sleep(60)
    assert set(sessions.noted) == {"opened"} and len(sessions.sent) == tries
    sessions.failing.clear()
    page.connection.end("signal_close")
    await settled()
    assert sessions.noted[-1] == "signal_close" and page.connection.noted.is_set()
    [stopped] = await sessions.events("clock_stopped")
    assert stopped["since"] == now() - 10


@pytest.mark.parametrize("what", ["the session", "a proof of life"])
@virtual
async def test_a_connection_is_noted_though_nothing_could_be_read_at_first(what: str) -> None:
    sessions = await interview()
    before = await held_elsewhere(sessions, 30_000)
    if what == "the session":
        sessions.reading = [Unavailable("away")] * 3
    else:
        sessions.store.failing["last_alive"] = [Unavailable("away")] * 3
    page = Page(Channels(sessions))
    await asyncio.sleep(10)
    assert (await sessions.of_channels())[1:] == [("channel_lost", before), ("channel_opened", page.name)]
    page.connection.end("signal_close")
    await settled()
    assert (await sessions.of_channels())[3:] == [("channel_lost", page.name)]


@virtual
async def test_who_comes_back_while_the_storage_is_away_is_credited_from_the_loss_on() -> None:
    sessions = await interview()
    here = Channels(sessions)
    first = Page(here)
    await asyncio.sleep(20)
    sessions.failing = [Unavailable("away")] * 5
    first.connection.end("signal_close")
    lost_at = now()
    await asyncio.sleep(1)
    second = Page(here)
    await asyncio.sleep(20)
    state = await sessions.read("s1")
    assert state.presence.here == (("channel", second.name),) and state.presence.stops == 1
    [credited] = await sessions.events("clock_credited")
    noted_at = sessions.sent[-1][0]
    assert credited["ms"] == noted_at - lost_at > 3_000


# Sessions that are gone, and faults


@pytest.mark.parametrize("when", ["at once", "later"])
@virtual
async def test_a_deleted_session_ends_it_quietly(when: str, caplog: pytest.LogCaptureFixture) -> None:
    sessions = await interview()
    here = Channels(sessions)
    if when == "at once":
        sessions.failing = [NotFound.session("s1")]
    page = Page(here)
    await settled()
    sessions.failing = [NotFound.session("s1")] if when == "later" else []
    page.connection.end("client_initiated")
    await settled()
    assert page.connection.noted.is_set()
    assert len(sessions.sent) == (1 if when == "at once" else 2), "it is not tried again"
    assert not [r for r in caplog.records if r.levelname in ("WARNING", "ERROR")]
    Page(here)
    await settled()
    assert sessions.noted[-1] == "opened", "nobody waits for it"


@virtual
async def test_an_unknown_session_ends_it_quietly(caplog: pytest.LogCaptureFixture) -> None:
    sessions = await interview()
    page = Page(Channels(sessions), "unknown")
    await settled()
    assert page.connection.noted.is_set() and sessions.sent == [] and not caplog.records


@virtual
async def test_a_fault_of_ours_stops_no_other_connection(caplog: pytest.LogCaptureFixture) -> None:
    sessions = await interview()
    sessions.failing = [RuntimeError("a fault")]
    here = Channels(sessions)
    page = Page(here)
    await settled()
    assert page.connection.noted.is_set() and "not noted" in caplog.text
    Page(here)
    await settled()
    assert sessions.noted == ["opened", "opened"]


@virtual
async def test_after_the_end_nothing_is_entered() -> None:
    sessions = await interview(questions=1)
    page = Page(Channels(sessions))
    await settled()
    session = await Session.load(sessions.journal, "s1")
    await session.execute(Request(c.End(), c.Caller("staff", "staff"), now()), now())
    page.connection.end("signal_close")
    await settled()
    assert [t for t, _ in await sessions.of_channels()] == ["channel_opened"]
    assert page.connection.noted.is_set()


# The front end ends


@virtual
async def test_a_front_end_that_ends_says_so_of_its_connections() -> None:
    sessions = await interview()
    await new_session(sessions.journal, "s2", at=now())
    here = Channels(sessions)
    pages = [Page(here), Page(here, "s2"), Page(here)]
    await settled()
    closed_at = now()
    await here.close()
    assert now() == closed_at, "there is nothing to wait for"
    lost = [n for _, n in sessions.sent if isinstance(n, c.NoteDisconnected)]
    assert {(n.connection, n.reason) for n in lost} == {
        (pages[0].name, "duplicate_identity"),
        (pages[1].name, "server_shutdown"),
        (pages[2].name, "server_shutdown"),
    }
    await asyncio.sleep(60)
    state = await sessions.read("s1")
    assert state.open is not None and state.open.lost_at == closed_at
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing is left running"


@virtual
async def test_what_cannot_be_noted_does_not_keep_a_front_end_from_ending() -> None:
    sessions = await interview()
    here = Channels(sessions)
    Page(here)
    await settled()
    sessions.failing = [Unavailable("away")] * 1_000
    began = now()
    await here.close()
    assert now() - began == pytest.approx(CLOSE_SECONDS * 1000)
    tries = len(sessions.sent)
    await asyncio.sleep(60)
    assert len(sessions.sent) == tries and asyncio.all_tasks() == {asyncio.current_task()}


@virtual
async def test_one_that_had_gone_by_then_keeps_its_own_reason() -> None:
    sessions = await interview()
    here = Channels(sessions)
    page = Page(here)
    await settled()
    page.connection.end("client_initiated")
    await here.close()
    assert sessions.noted == ["opened", "client_initiated"]


@virtual
async def test_a_front_end_that_never_had_a_connection_ends_at_once() -> None:
    await Channels(Sessions()).close()


# What it does to the clock


@virtual
async def test_an_absence_is_credited_to_the_millisecond() -> None:
    sessions = await interview()
    here = Channels(sessions)
    began, page = now(), Page(here)
    await asyncio.sleep(12.345)
    page.connection.end("signal_close")
    await asyncio.sleep(33.333)
    assert (await sessions.read("s1")).status_detail == "connection_lost"
    Page(here)
    await settled()
    state = await sessions.read("s1")
    assert [(line.cause, line.ms) for line in state.ledger] == [("network", 33_333)]
    assert state.deadline == began + 3_600_000 + 33_333
    assert credit_left_ms(state, CAP) == CAP - 33_333 and state.status_detail == "question_open"


@pytest.mark.parametrize(("reason", "stops"), [("signal_close", MAX_STOPS), ("server_shutdown", 0)])
@virtual
async def test_the_clock_stops_three_times_and_what_is_ours_does_not_count(reason: str, stops: int) -> None:
    sessions = await interview()
    here = Channels(sessions)
    for _ in range(MAX_STOPS + 2):
        page = Page(here)
        await asyncio.sleep(5)
        page.connection.end(reason)
        await asyncio.sleep(10)
    Page(here)
    await settled()
    state = await sessions.read("s1")
    credited = [line.ms for line in state.ledger]
    assert credited == [10_000] * (MAX_STOPS if stops else MAX_STOPS + 2)
    assert state.presence.stops == stops
    assert [t for t, _ in await sessions.of_channels()].count("channel_lost") == MAX_STOPS + 2, "all are noted"


@virtual
async def test_a_reload_of_the_page_costs_the_candidate_what_it_takes() -> None:
    sessions = await interview()
    here = Channels(sessions)
    page = Page(here)
    await asyncio.sleep(5)
    page.connection.end("client_initiated")
    await asyncio.sleep(10)
    Page(here)
    await settled()
    state = await sessions.read("s1")
    assert state.ledger == () and state.open is not None and state.open.remaining_ms(now()) == 3_600_000 - 15_010


# Those whose front end has died and who have not come back


GONE, LIVES = f"{FRONT_END}gone", f"{FRONT_END}lives"


async def two_front_ends(sessions: Sessions) -> None:
    """One with a connection of s1, one with one of s2."""
    await new_session(sessions.journal, "s2", at=now())
    for session_id, front_end in (("s1", GONE), ("s2", LIVES)):
        await sessions.send(session_id, c.NoteConnected(f"{front_end}:1", "channel"), channels.CHANNEL)
        sessions.store.held[front_end] = [session_id]
    sessions.sent.clear()


async def one_by_one(work: Callable[[str], Awaitable[object]], session_ids: Iterable[str]) -> None:
    """As the Housekeeper does it: one that fails does not stop the others."""
    for session_id in session_ids:
        with contextlib.suppress(OrchestratorError):
            await work(session_id)


@virtual
async def test_one_that_cannot_be_noted_keeps_nobody_from_noting_the_others() -> None:
    sessions = await interview()
    await two_front_ends(sessions)
    sessions.store.held[GONE] = ["s2", "s1"]
    await sessions.send("s2", c.NoteConnected(f"{GONE}:2", "channel"), channels.CHANNEL)
    sessions.sent.clear()
    sessions.failing = [Unavailable("away")]
    await note_dead_front_ends(sessions, {GONE: now() - 60_000}, 50, one_by_one)
    assert sessions.noted == ["server_shutdown"] * 2
    assert (await sessions.read("s1")).presence.here == ()


@virtual
async def test_what_front_ends_held_that_are_gone_is_noted_as_lost() -> None:
    sessions = await interview()
    await two_front_ends(sessions)
    await asyncio.sleep(100)
    gone_at = now() - 2 * GONE_MS
    await note_dead_front_ends(sessions, {GONE: gone_at, LIVES: gone_at + 1}, 50, one_by_one)
    assert [n for _, n in sessions.sent] == [
        c.NoteDisconnected(f"{GONE}:1", "server_shutdown", gone_at, CAP, "channel")
    ]
    state = await sessions.read("s1")
    assert state.open is not None and state.open.lost_at == gone_at and state.presence.stops == 0
    assert sessions.store.limits == [50] and sessions.store.forgotten == []


@virtual
async def test_one_that_has_come_back_elsewhere_by_now_is_left_alone() -> None:
    sessions = await interview()
    await two_front_ends(sessions)
    await sessions.send("s1", c.NoteConnected(f"{LIVES}:2", "channel"), channels.CHANNEL)
    sessions.sent.clear()
    await note_dead_front_ends(sessions, {GONE: now() - 60_000}, 50, one_by_one)
    assert sessions.sent == [] and (await sessions.read("s1")).presence.here == (("channel", f"{LIVES}:2"),)


@virtual
async def test_a_deleted_session_keeps_nobody_from_noting_the_others() -> None:
    sessions = await interview()
    await two_front_ends(sessions)
    sessions.store.held[GONE] = ["deleted", "s1"]
    await note_dead_front_ends(sessions, {GONE: now() - 60_000}, 50, one_by_one)
    assert sessions.noted == ["server_shutdown"]


@virtual
async def test_a_batch_is_no_larger_than_the_limit() -> None:
    sessions = await interview()
    sessions.store.held[GONE] = ["s1", *(f"x{n}" for n in range(5))]
    for n in range(5):
        await new_session(sessions.journal, f"x{n}", at=now())
    for session_id in sessions.store.held[GONE]:
        await sessions.send(session_id, c.NoteConnected(f"{GONE}:{session_id}", "channel"), channels.CHANNEL)
    sessions.sent.clear()
    await note_dead_front_ends(sessions, {GONE: now() - 60_000}, 3, one_by_one)
    assert len(sessions.sent) == 3


@pytest.mark.parametrize(
    ("gone_for", "held", "forgotten"),
    [
        (FORGET_MS + 1, False, True),
        (FORGET_MS, False, False),
        (FORGET_MS + 1, True, False),
        (GONE_MS, False, False),
    ],
)
@virtual
async def test_one_that_holds_nothing_is_forgotten_an_hour_later(gone_for: int, held: bool, forgotten: bool) -> None:
    sessions = await interview()
    await two_front_ends(sessions)
    if not held:
        sessions.store.held.clear()
    await note_dead_front_ends(sessions, {GONE: now() - gone_for}, 50, one_by_one)
    assert sessions.store.forgotten == [GONE] * forgotten


@virtual
async def test_while_it_is_not_noted_it_is_asked_again() -> None:
    sessions = await interview()
    await two_front_ends(sessions)
    sessions.failing = [Unavailable("away")]
    await note_dead_front_ends(sessions, {GONE: now() - 60_000}, 50, one_by_one)
    await note_dead_front_ends(sessions, {GONE: now() - 60_000}, 50, one_by_one)
    assert sessions.noted == ["server_shutdown"] * 2
    assert (await sessions.read("s1")).presence.here == ()
