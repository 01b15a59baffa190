"""Channels: the candidates' live connections to one front end, and how they become facts of their sessions.

    a connection opens    an older one here is closed; one of a front end that has died is noted as lost
    it ends               noted as closed, or as lost since its last sign of life
    this process dies     whoever comes next, or the Housekeeper, notes it: the ids say which front end held them,
                          and its last proof of life since when it was gone

An older connection on another front end learns of a newer one from the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from actors.buckets import Buckets
from actors.clock import wall_ms
from orchestrator.errors import NotFound, OrchestratorError, TooManyRequests
from orchestrator.interview.commands import Caller, Command, NoteConnected, NoteDisconnected
from orchestrator.interview.state import State
from orchestrator.session import Reply

log = logging.getLogger(__name__)

T = TypeVar("T")
Each = Callable[[Callable[[str], Awaitable[object]], Iterable[str]], Awaitable[None]]

CHANNEL = Caller("channel", "system")
FRONT_END = "front-end-"
"""What names of front ends begin with among those who give proofs of life."""
ALIVE_SECONDS = 1.0
LOOK_SECONDS = 0.25
GONE_MS = 2_500
"""A front end that has given no proof of life for so long is gone."""
HEARTBEAT_SECONDS, ANSWER_SECONDS = 3.0, 6.0
"""How often a connection is pinged, and how long an answer may take."""
SILENCE_MS = round((HEARTBEAT_SECONDS + ANSWER_SECONDS) * 1000)
LIVELY_MS = 5_000
"""A connection from which something came so recently was alive when a newer one took its place."""
OPENED_AT_ONCE, OPENED_A_SECOND = 60.0, 2.0
"""Channels of a session, observers included."""
MAX_OBSERVERS = 50
"""Of one session, at one front end."""
NOTE_SECONDS = 60.0
"""For how long it is tried to have the end of a connection noted."""
CLOSE_SECONDS = 2.0
FORGET_MS = 3_600_000


class Sessions(Protocol):
    """The part of InterviewClient that is needed here."""

    store: Any
    settings: Any

    async def read(self, session_id: str) -> State: ...

    async def send(self, session_id: str, command: Command, caller: Caller, command_id: str | None = None) -> Reply: ...


class Connection:
    """One candidate's live channel. `replaced` is called when a newer one takes its place here."""

    def __init__(self, session_id: str, name: str, page: str | None, replaced: Callable[[], None]) -> None:
        self.session_id = session_id
        self.name = name
        self.page = page
        """What the client calls itself, if it does: the same one may come back before it was noticed to be gone."""
        self.noted = asyncio.Event()
        """Set once its end is in the journal, or cannot be."""
        self._replaced = replaced
        self._heard_at = wall_ms()
        self._pings = False
        self._ended: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()

    def heard(self, *, ping: bool) -> None:
        self._heard_at = wall_ms()
        self._pings |= ping

    def end(self, reason: str, at: int | None = None) -> None:
        """It is over, for a reason by LiveKit's name for it, since `at` (ms; None: now)."""
        if not self._ended.done():
            self._ended.set_result((reason, wall_ms() if at is None else at))

    def lost_sign(self) -> None:
        """It has given no answer to pings."""
        self.end("no_heartbeat", self.silent_since)

    def give_way(self, to: Connection | None = None) -> None:
        """A newer one has taken its place: it was still there, or had not been noticed to be gone."""
        if self._pings and wall_ms() - self._heard_at > LIVELY_MS:
            self.lost_sign()
        elif to is not None and self.page is not None and self.page == to.page:
            self.end("replaced")
        else:
            self.end("duplicate_identity")
        self._replaced()

    @property
    def silent_since(self) -> int:
        """Since when nothing was heard of it (ms); no earlier than pings would have found out."""
        return max(self._heard_at, wall_ms() - SILENCE_MS)

    @property
    def has_ended(self) -> bool:
        return self._ended.done()

    async def ended(self) -> tuple[str, int]:
        return await asyncio.shield(self._ended)


class Channels:
    """The candidates' connections of this process."""

    def __init__(self, sessions: Sessions) -> None:
        self.front_end = FRONT_END + secrets.token_hex(6)
        self._sessions = sessions
        self._here: dict[str, Connection] = {}
        self._admitted = Buckets(OPENED_AT_ONCE, OPENED_A_SECOND)
        self._watching: Counter[str] = Counter()
        self.open_now: Counter[str] = Counter(candidate=0, observer=0)
        """Channels by role."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._alive: asyncio.Task[None] | None = None

    def admit(self, session_id: str, observes: bool = False) -> None:
        """Raises TooManyRequests if channels of a session are opened too fast, or too many watch it."""
        self._admitted.take(session_id)
        if observes and self._watching[session_id] >= MAX_OBSERVERS:
            raise TooManyRequests(f"{MAX_OBSERVERS} observers watch this session here already.", retry_after=10)

    @contextlib.contextmanager
    def watching(self, session_id: str, observes: bool) -> Iterator[None]:
        """While a channel of a session is open: whether it is an observer who watches."""
        role = "observer" if observes else "candidate"
        self.open_now[role] += 1
        self._watching[session_id] += observes
        try:
            yield
        finally:
            self.open_now[role] -= 1
            self._watching[session_id] -= observes
            if not self._watching[session_id]:
                del self._watching[session_id]

    def open(self, session_id: str, replaced: Callable[[], None], page: str | None = None) -> Connection:
        """A candidate has connected; what becomes of it is noted in the background."""
        if self._alive is None:
            self._alive = asyncio.get_running_loop().create_task(self._stay_alive())
        connection = Connection(session_id, f"{self.front_end}:{secrets.token_hex(6)}", page, replaced)
        older = self._here.get(session_id)
        self._here[session_id] = connection
        task = asyncio.get_running_loop().create_task(self._note(connection, older))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return connection

    async def close(self) -> None:
        """Note what can still be noted; what cannot is found out by others."""
        for connection in list(self._here.values()):
            connection.end("server_shutdown")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*self._tasks, return_exceptions=True)
        for task in (*self._tasks, *([self._alive] if self._alive else [])):
            task.cancel()

    async def _note(self, connection: Connection, older: Connection | None) -> None:
        try:
            await self._note_opened(connection, older)
            reason, at = await connection.ended()
            await self._send(connection, self._lost(connection, reason, at))
        except NotFound:
            log.debug("the session is gone", extra={"session_id": connection.session_id})
        except Exception:
            log.exception("a connection is not noted", extra={"session_id": connection.session_id})
        finally:
            connection.noted.set()
            if self._here.get(connection.session_id) is connection:
                del self._here[connection.session_id]

    async def _note_opened(self, connection: Connection, older: Connection | None) -> None:
        """First what became of the one before: a clock that should have stood still is put right by the return."""
        if older is not None:
            older.give_way(connection)
            await older.noted.wait()
        for lost in await _until_done(connection, lambda: self._of_dead_front_ends(connection)) or ():
            await self._send(connection, lost)
        opened = NoteConnected(connection.name, "channel")
        await _until_done(connection, lambda: self._note_if_there(connection, opened))

    async def _note_if_there(self, connection: Connection, opened: NoteConnected) -> None:
        """One that has ended meanwhile is not entered any more: it would take the place of a newer one elsewhere."""
        if not connection.has_ended:
            await self._sessions.send(connection.session_id, opened, CHANNEL)

    async def _of_dead_front_ends(self, connection: Connection) -> list[NoteDisconnected]:
        state = await self._sessions.read(connection.session_id)
        found: list[NoteDisconnected] = []
        for source, name in state.presence.here:
            front_end = name.split(":")[0]
            if source != "channel" or front_end == self.front_end:
                continue
            died_at = await self._died_at(front_end)
            if died_at is not None:
                found.append(NoteDisconnected(name, "server_shutdown", died_at, self._credit_ms, "channel"))
        return found

    async def _died_at(self, front_end: str) -> int | None:
        """When a front end gave its last proof of life (ms); None if it lives. One that died only just now may still
        count as alive: then it is waited until it gives the next proof, or until that is overdue."""
        first = latest = await self._sessions.store.last_alive(front_end)
        for _ in range(round(2 * GONE_MS / 1000 / LOOK_SECONDS)):
            if latest is None or latest != first:
                return None
            if wall_ms() - latest > GONE_MS:
                return latest
            await asyncio.sleep(LOOK_SECONDS)
            latest = await self._sessions.store.last_alive(front_end)
        return None

    @property
    def _credit_ms(self) -> int:
        return self._sessions.settings.network_credit_ms

    def _lost(self, connection: Connection, reason: str, at: int) -> NoteDisconnected:
        return NoteDisconnected(connection.name, reason, at, self._credit_ms, "channel")

    async def _send(self, connection: Connection, command: Command) -> None:
        session_id = connection.session_id
        await _until_done(connection, lambda: self._sessions.send(session_id, command, CHANNEL))

    async def _stay_alive(self) -> None:
        while True:
            try:
                await self._sessions.store.alive(self.front_end, wall_ms())
            except OrchestratorError as error:
                log.debug("no proof of life written", extra={"reason": error.code})
            except Exception:
                log.exception("no proof of life written")
            await asyncio.sleep(ALIVE_SECONDS)


async def _until_done(connection: Connection, work: Callable[[], Awaitable[T]]) -> T | None:
    """Do it however long the storage or the session's owner is away, up to a limit. Raises NotFound."""
    loop = asyncio.get_running_loop()
    give_up, pause = loop.time() + NOTE_SECONDS, 0.1
    while True:
        try:
            return await work()
        except NotFound:
            raise
        except OrchestratorError as error:
            if loop.time() > give_up:
                known = {"session_id": connection.session_id, "reason": error.code}
                log.warning("a connection is not noted", extra=known)
                return None
        await asyncio.sleep(pause)
        pause = min(2 * pause, 2.0)


async def note_dead_front_ends(sessions: Sessions, front_ends: dict[str, int], limit: int, each: Each) -> None:
    """Note as lost what front ends held that are gone, with when each was last alive (ms).

    One that holds nothing any more is forgotten an hour later; until then whoever comes back may ask for it. `each`
    does something for each session, some at a time, whatever becomes of the others.
    """
    for front_end, alive_at in front_ends.items():
        gone_for = wall_ms() - alive_at
        if gone_for < 2 * GONE_MS:
            continue
        held = await sessions.store.held_by_front_end(front_end, limit)
        await each(functools.partial(_note_held, sessions, front_end, alive_at), held)
        if not held and gone_for > FORGET_MS:
            await sessions.store.forget_alive(front_end)


async def _note_held(sessions: Sessions, front_end: str, alive_at: int, session_id: str) -> None:
    state = await sessions.read(session_id)
    for source, name in state.presence.here:
        if source == "channel" and name.split(":")[0] == front_end:
            credit_ms = sessions.settings.network_credit_ms
            lost = NoteDisconnected(name, "server_shutdown", alive_at, credit_ms, "channel")
            await sessions.send(session_id, lost, CHANNEL)
