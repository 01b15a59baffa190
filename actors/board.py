"""Board: what the operators' consoles of one front end show, read once for all of them.

    the first console comes    everything is read: who is in progress, who waits, who ended in the last hour
    every 1.5 s                sessions whose snapshots were written since; only those whose seq is new are read
    every 15 s                 who is in progress, and what was deleted: whatever the quick look may have missed
    every 5 s                  the cluster, from the Registry
    the last console leaves    nothing is read any more, and all is forgotten

What is new is turned into one message, made into bytes once, and put into each console's queue. A console that does
not take its messages is dropped; it comes back and is given everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterable
from typing import Any, Protocol, Self

from actors.clock import wall_ms
from orchestrator.errors import OrchestratorError, TooManyRequests
from orchestrator.interview.overview import MINUTE_MS, MINUTES, Span, last_hour, row_of
from orchestrator.interview.snapshot import Snapshot
from orchestrator.interview.state import load_state
from orchestrator.interview.view import iso
from orchestrator.policies import policy_of
from orchestrator.storage.queries import Brief, Wanted

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.5
SHARE = 0.1
"""So much of the time at most goes into looking; with very many sessions it is looked less often."""
PAUSE_SECONDS = 5.0
"""The longest pause: most of a look may have been waiting for what is away."""
OVERLAP_MS = 2_000
"""A snapshot may be written by a clock that is that much behind, or take so long; what is older is found by a sweep."""
SWEEP_SECONDS = 15.0
CLUSTER_SECONDS = 5.0
COUNT_SECONDS = 30.0
CHART_SECONDS = 10.0
BEAT_SECONDS = 10.0
"""A message at least so often, so that pages know that they are connected."""
MAX_CONSOLES = 100
MAX_QUEUED = 32
"""Messages that wait for a slow console."""
MAX_LIVE = 1_000
"""Interviews in progress that are shown; all are counted."""
MAX_WAITING, MAX_ENDED = 100, 50
MAX_BRIEFS = 100_000
READ_AT_ONCE = 50
HOUR_MS = MINUTES * MINUTE_MS
WAITING, LIVE, ENDED = "initialized", "in_progress", "completed"


class Store(Protocol):
    """The part of Store that is needed here."""

    async def changed_since(self, at: int, limit: int) -> list[Brief]: ...

    async def live(self, limit: int) -> list[Brief]: ...

    async def ended_since(self, at: int, limit: int) -> list[Brief]: ...

    async def still_there(self, session_ids: list[str]) -> list[Brief]: ...

    async def snapshots_of(self, session_ids: list[str]) -> list[Snapshot]: ...

    async def list_snapshots(self, wanted: Wanted = ..., *, limit: int = ...) -> list[Snapshot]: ...

    async def count_snapshots(self, wanted: Wanted = ...) -> int: ...


class Console:
    """One page's queue of messages. Used as a context manager."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(MAX_QUEUED)
        self.has_all = False
        """Whether it was given everything that there is, so that changes are enough."""
        self.is_open = True

    def put(self, message: bytes) -> None:
        """Drops the console if it has not taken what came before."""
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            log.info("a console is too slow and is dropped")
            self.is_open = False  # it counts as one until its connection has ended

    @property
    def is_up_to_date(self) -> bool:
        """Whether it has taken everything that there is."""
        return self.has_all and self._queue.empty()

    async def next(self, seconds: float) -> bytes | None:
        """The next message; None if there is none in this time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._queue.get()
        return None

    def __enter__(self) -> Self:
        self._board.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._board.remove(self)


class Client(Protocol):
    """The part of InterviewClient that is needed here."""

    @property
    def store(self) -> Any: ...

    async def cluster(self) -> dict[str, Any]: ...


class Board:
    """The consoles of one process, and what they are told."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._store: Store = client.store
        self._consoles: set[Console] = set()
        self._looking: asyncio.Task[None] | None = None
        self._known = _Known()
        self._revision = 0
        self._all: bytes | None = None

    def open(self) -> Console:
        """Raises TooManyRequests."""
        if len(self._consoles) >= MAX_CONSOLES:
            raise TooManyRequests(f"{MAX_CONSOLES} consoles are open here already.", retry_after=10)
        return Console(self)

    def add(self, console: Console) -> None:
        self._consoles.add(console)
        if self._known.is_read:
            self._give_all(console)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_while_watched())

    @property
    def watching(self) -> list[Console]:
        return [console for console in self._consoles if console.is_open]

    def remove(self, console: Console) -> None:
        self._consoles.discard(console)

    def close(self) -> None:
        """Nobody is told anything any more."""
        for console in self._consoles:
            console.is_open = False
        if self._looking is not None:
            self._looking.cancel()

    # Looking

    async def _look_while_watched(self) -> None:
        loop = asyncio.get_running_loop()
        while self._consoles:
            began, beat = loop.time(), self._known.said_at
            try:
                await self._look(began)
            except OrchestratorError as error:
                log.debug("the board cannot be read", extra={"reason": error.code})
                self._known.trouble_with("storage", "The database does not answer; what is shown is not up to date.")
            except Exception:
                log.exception("the board cannot be read")
            self._publish(began, beat)
            took = loop.time() - began
            await asyncio.sleep(min(PAUSE_SECONDS, max(LOOK_SECONDS - took, took / SHARE - took)))
        self._known, self._all = _Known(), None

    async def _look(self, at: float) -> None:
        known = self._known
        if known.is_due("cluster", at, CLUSTER_SECONDS):
            await self._look_at_cluster()
        if not known.is_read:
            await self._read_all()
        elif known.is_due("sweep", at, SWEEP_SECONDS):
            await self._sweep()
        else:
            now = wall_ms()
            await self._take(await self._store.changed_since(known.looked_at - OVERLAP_MS, MAX_BRIEFS))
            known.looked_at = now
        if known.is_due("count", at, COUNT_SECONDS):
            known.waiting = await self._store.count_snapshots(Wanted(status=WAITING))
        known.trouble_with("storage", None)
        if known.is_due("chart", at, CHART_SECONDS) or known.spans_changed:
            known.note_figures(wall_ms())

    async def _look_at_cluster(self) -> None:
        try:
            self._known.cluster = await self._client.cluster()
            self._known.trouble_with("cluster", None)
        except OrchestratorError:
            self._known.trouble_with("cluster", "The Registry does not answer: no new interview starts meanwhile.")

    async def _read_all(self) -> None:
        known, store = self._known, self._store
        known.looked_at = now = wall_ms()
        ended = await store.ended_since(now - HOUR_MS, MAX_BRIEFS)
        for brief in ended:
            known.note_span(brief)
        latest = ended[:MAX_ENDED]
        if len(latest) < MAX_ENDED:  # a quiet hour: those before it
            latest = await store.ended_since(1, MAX_ENDED)
        for snapshot in await store.list_snapshots(Wanted(status=WAITING), limit=MAX_WAITING):
            known.take_in(snapshot)
        await self._take([*await store.live(MAX_BRIEFS), *latest])
        known.is_read = True

    async def _sweep(self) -> None:
        """Who is in progress now, and which of those that are shown were deleted."""
        known = self._known
        live = await self._store.live(MAX_BRIEFS)
        others = list((known.rows.keys() | known.live) - {brief.session_id for brief in live})
        there = await self._store.still_there(others) if others else []
        for deleted in set(others) - {brief.session_id for brief in there}:
            known.forget(deleted)
        await self._take([*live, *there])
        known.prune(wall_ms() - HOUR_MS)

    async def _take(self, briefs: Iterable[Brief]) -> None:
        """Read those of which there is something newer than what is shown."""
        known = self._known
        wanted = known.news_of(briefs)
        for first in range(0, len(wanted), READ_AT_ONCE):
            for snapshot in await self._store.snapshots_of(wanted[first : first + READ_AT_ONCE]):
                known.take_in(snapshot)
            await asyncio.sleep(0)  # others have their turn

    # Telling

    def _publish(self, at: float, beat: float) -> None:
        known = self._known
        change = known.take_changes()
        if change or at - beat >= BEAT_SECONDS:
            known.said_at = at
            self._revision += 1
            self._all = None
            message = _message("change", self._revision, change)
        else:
            message = None
        for console in self.watching:
            if known.is_read and not console.has_all:
                self._give_all(console)
            elif message is not None:
                console.put(message)

    def _give_all(self, console: Console) -> None:
        if self._all is None:
            self._all = _message("all", self._revision, self._known.everything())
        console.has_all = True
        console.put(self._all)


class _Known:
    """What the consoles have been told, and what has changed since."""

    def __init__(self) -> None:
        self.is_read = False
        self.looked_at = 0
        self.said_at = 0.0
        self.rows: dict[str, dict[str, Any]] = {}
        self.live: set[str] = set()
        self.waiting = 0
        self.cluster: dict[str, Any] | None = None
        self.spans: dict[str, Span] = {}
        self.spans_changed = True
        self._seqs: dict[str, int] = {}
        self._places: dict[str, str] = {}
        self._troubles: dict[str, str] = {}
        self._due: dict[str, float] = {}
        self._figures: dict[str, Any] = {}
        self._news: set[str] = set()
        self._gone: set[str] = set()
        self._told: dict[str, Any] = {}

    def is_due(self, what: str, at: float, every: float) -> bool:
        if at < self._due.get(what, 0.0):
            return False
        self._due[what] = at + every
        return True

    def trouble_with(self, what: str, sentence: str | None) -> None:
        if sentence is None:
            self._troubles.pop(what, None)
        else:
            self._troubles[what] = sentence

    # Sessions

    def news_of(self, briefs: Iterable[Brief]) -> list[str]:
        """Which sessions are to be read: they are newer than what is known of them, and have a place on the board."""
        room = MAX_LIVE - sum(place == LIVE for place in self._places.values())
        found: list[str] = []
        for brief in briefs:
            known = self._seqs.get(brief.session_id)
            if known is not None and brief.seq <= known:
                continue
            self.note_span(brief)
            if brief.status == LIVE and self._places.get(brief.session_id) != LIVE:
                room -= 1
                if room < 0:
                    continue
            found.append(brief.session_id)
        return found

    def note_span(self, brief: Brief) -> None:
        """It is counted, whether it is shown or not."""
        session_id, started = brief.session_id, brief.started_at
        (self.live.add if brief.status == LIVE else self.live.discard)(session_id)
        if started is not None and self.spans.get(session_id) != (started, brief.ended_at):
            self.spans[session_id] = started, brief.ended_at
            self.spans_changed = True

    def take_in(self, snapshot: Snapshot) -> None:
        session_id = snapshot.session_id
        if snapshot.seq <= self._seqs.get(session_id, -1):
            return
        state = load_state(snapshot.state)
        self.note_span(Brief(session_id, state.seq, state.status, state.started_at, state.completed_at))
        self._count_waiting(session_id, state.status)
        self._seqs[session_id] = state.seq
        self._places[session_id] = state.status
        row = row_of(state, policy_of(state))
        if row != self.rows.get(session_id):
            self.rows[session_id] = row
            self._gone.discard(session_id)
            self._news.add(session_id)
        if state.status == WAITING:
            self._keep_newest(WAITING, "created_at", MAX_WAITING)
        elif state.status == ENDED:
            self._keep_newest(ENDED, "completed_at", MAX_ENDED)

    def _count_waiting(self, session_id: str, status: str) -> None:
        """Between two counts."""
        before = self._places.get(session_id)
        if self.is_read and before is None and status == WAITING:
            self.waiting += 1
        elif before == WAITING and status != WAITING:
            self.waiting = max(0, self.waiting - 1)

    def _keep_newest(self, place: str, by: str, most: int) -> None:
        here = [session_id for session_id, known in self._places.items() if known == place and session_id in self.rows]
        for session_id in sorted(here, key=lambda s: self.rows[s][by])[:-most] if len(here) > most else ():
            self._drop_row(session_id)

    def forget(self, session_id: str) -> None:
        """It was deleted."""
        if self._places.pop(session_id, None) == WAITING:
            self.waiting = max(0, self.waiting - 1)
        self._seqs.pop(session_id, None)
        self.live.discard(session_id)
        self.spans_changed |= self.spans.pop(session_id, None) is not None
        self._drop_row(session_id)

    def _drop_row(self, session_id: str) -> None:
        if self.rows.pop(session_id, None) is not None:
            self._news.discard(session_id)
            self._gone.add(session_id)

    def prune(self, before: int) -> None:
        """What has ended before then and is not shown is not remembered."""
        for session_id, (_, ended) in list(self.spans.items()):
            if ended is not None and ended < before:
                del self.spans[session_id]
        for session_id in list(self._seqs):
            if session_id not in self.rows and session_id not in self.spans:
                del self._seqs[session_id]
                self._places.pop(session_id, None)

    # Figures

    def note_figures(self, now: int) -> None:
        self.spans_changed = False
        minutes = last_hour(self.spans.values(), now)
        self._figures["chart"] = {"until": iso((now // MINUTE_MS + 1) * MINUTE_MS), "minutes": minutes}

    def _told_by(self) -> dict[str, Any]:
        figures = {"live": len(self.live), "waiting": self.waiting, "cluster": self.cluster}
        return {**figures, **self._figures, "trouble": " ".join(self._troubles.values()) or None}

    def take_changes(self) -> dict[str, Any]:
        """What is new since it was asked last."""
        told = self._told_by()
        change = {name: value for name, value in told.items() if self._told.get(name, ...) != value}
        if self._news:
            change["rows"] = [self.rows[session_id] for session_id in self._news]
        if self._gone:
            change["gone"] = sorted(self._gone)
        self._told, self._news, self._gone = told, set(), set()
        return change

    def everything(self) -> dict[str, Any]:
        return {**self._told, "rows": list(self.rows.values())}


def _message(event: str, revision: int, data: dict[str, Any]) -> bytes:
    """As server-sent events have it; JSON has no line ends in it."""
    text = json.dumps(data | {"server_time": iso(wall_ms())}, separators=(",", ":"))
    return f"id: {revision}\nevent: {event}\ndata: {text}\n\n".encode()
