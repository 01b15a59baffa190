"""Runs commands on one session: decide, append, fold, and what to do when the append collides.

Whoever owns a session works through this class: its actor while it is in progress, and a front end or
the Housekeeper (by optimistic append) while it is not. One command at a time; the callers see to that
with `lock`.

An append whose outcome is unknown is repeated unchanged before anything else is decided. Time in which
nothing could be made durable is credited as soon as the journal answers again; so is the time of an append
that succeeded, but slowly.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace
from typing import NoReturn

from orchestrator.errors import (
    Fenced,
    InvalidInput,
    Moved,
    NotFound,
    OrchestratorError,
    Retryable,
    StaleVersion,
    Unavailable,
)
from orchestrator.interview.allowed import conflict
from orchestrator.interview.commands import (
    SYSTEM,
    Activate,
    Caller,
    Command,
    Credit,
    Delete,
    Expire,
    Park,
    Role,
    Start,
)
from orchestrator.interview.decide import Event, Plan, activation, decide, is_expiry, plan
from orchestrator.interview.entry import Entry, new_entry
from orchestrator.interview.fold import fold, fold_all
from orchestrator.interview.outbox import with_notices
from orchestrator.interview.presence import sign
from orchestrator.interview.sightings import Seen
from orchestrator.interview.snapshot import Draft
from orchestrator.interview.state import State, load_state, snapshot_of
from orchestrator.interview.view import session_view
from orchestrator.interview.wire import Wire
from orchestrator.journal import Appended, Journal, Loaded, Outage
from orchestrator.policies import policy_of

log = logging.getLogger(__name__)

SLOW_APPEND_SECONDS = 0.5
"""An append that takes longer, or a command that waits longer, has cost the candidate time worth giving back."""
SLOW_COMMAND_SECONDS = 1.0
"""The same of both together."""


@dataclass(frozen=True, slots=True)
class Request(Wire):
    """A command on its way to a session. `received_at` (ms) is when the front end had it in hand."""

    command: Command
    caller: Caller
    received_at: int
    command_id: str | None = None
    if_match: int | None = None


@dataclass(frozen=True, slots=True)
class Reply(Wire):
    """What a command came to: the session as the caller may see it."""

    session: dict[str, object]
    version: int
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class DraftSaved(Wire):
    """The highest revision that is stored now, and whether it is the one that was sent."""

    revision: int
    saved: bool


def state_of(loaded: Loaded) -> State:
    """The state that a stored session adds up to. Raises NotFound for one that was deleted."""
    start = load_state(loaded.snapshot.state) if loaded.snapshot else None
    state = fold_all(start, loaded.entries)
    assert state is not None
    if state.status == "deleted":
        raise NotFound.session(state.session_id)
    return state


class Session:
    """One session in the hands of one owner.

    `owned` is True for the actor that activated it: then a higher epoch in the journal means that
    another owner has taken over, and every call raises Fenced from there on.
    """

    def __init__(self, journal: Journal, state: State, draft: Draft | None, *, owned: bool = False) -> None:
        self.journal = journal
        self.state = state
        self.draft = draft
        self.owned = owned
        self.fenced = False
        self.lock = asyncio.Lock()
        self._blocked: tuple[int, int | None] | None = None
        self._pending: Entry | None = None
        self._draft_unclaimed = False
        self._news: dict[int, Seen] = {}

    @classmethod
    async def load(cls, journal: Journal, session_id: str) -> Session:
        """Read a session. Raises NotFound."""
        loaded = await journal.load(session_id)
        if loaded is None:
            raise NotFound.session(session_id)
        session = cls(journal, state_of(loaded), loaded.draft)
        if loaded.snapshot is None:
            with contextlib.suppress(Retryable):
                await journal.insert_snapshot(snapshot_of(session.state))
        return session

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing left to repeat, to claim or to credit."""
        return self._pending is None and self._blocked is None and not self._draft_unclaimed

    @property
    def has_let_go(self) -> bool:
        """Whether the journal says that this owner has let the session go."""
        return self.owned and self.state.status == "in_progress" and self.state.actor is None

    def take_news(self) -> list[Seen]:
        """What proctoring has seen since it was asked last, as far as this owner has entered it."""
        news, self._news = list(self._news.values()), {}
        return news

    def view(self, now: int, role: Role) -> dict[str, object]:
        return session_view(self.state, now, role, policy_of(self.state))

    async def execute(self, request: Request, now: int) -> Reply:
        """Run a command and make it durable. Raises what `decide` raises, Fenced, or a Retryable.

        `now` (ms) is the wall clock; deadlines are judged by the time of receipt.
        """
        replayed = await self._run(request, now)
        return Reply(self.view(now, request.caller.role), self.state.version, replayed)

    async def _run(self, request: Request, now: int) -> bool:
        loop = asyncio.get_running_loop()
        began, confirmed = loop.time(), not self.owned
        while True:
            await self.settle(now)
            if self.has_let_go:
                raise Moved("The session is being handed over.", session_id=self.state.session_id, retry_after=1)
            judged_at = max(min(request.received_at, now), self.state.at)
            if not isinstance(request.command, Park):
                await self._expire_if_overdue(judged_at, now)
            try:
                planned = plan(self.state, request.command, request.caller, request.command_id, judged_at, self.draft)
                self._check_version(request, planned)
            except OrchestratorError:
                if confirmed:
                    raise
                planned = Plan([])
            if planned.replayed:
                return True
            if not planned.events and not confirmed:
                # What an owner refuses, or need not do, goes by its memory alone: it may have been replaced.
                await self.confirm()
                confirmed = True
                continue
            if not planned.events:
                return False
            if await self._append(planned.events, judged_at, request.caller.principal, planned.command):
                ended = now + round((loop.time() - began) * 1000)
                waited, all_of_it = now - judged_at, ended - judged_at
                if self.owned and (waited > SLOW_APPEND_SECONDS * 1000 or all_of_it > SLOW_COMMAND_SECONDS * 1000):
                    self.note_blocked(judged_at, ended)  # what was opened then can be seen only now
                return False

    async def activate(self, command: Activate, request: Request | None, now: int) -> bool:
        """Take the session, with the command that caused it in the same entry. Returns `replayed`.

        After a return, this object owns the session or it is parked. Raises as `execute` does; Fenced if another owner
        has taken the session since this object read it.
        """
        epoch = self.state.epoch
        while True:
            if self.state.epoch > epoch:
                self._fence()
            await self.settle(now)
            at = max(now, self.state.at)
            if self.state.status == "initialized":
                await self._expire_if_overdue(at, now)
            events, identity, principal = self._activation_plan(command, request, at)
            if await self._append(events, at, principal, identity):
                self.owned = self.state.actor == command.actor
                self._draft_unclaimed = self.owned and self.state.epoch > 1
                return False

    def _activation_plan(
        self, command: Activate, request: Request | None, at: int
    ) -> tuple[list[Event], tuple[str, str] | None, str]:
        starts = request is not None and isinstance(request.command, Start)
        if self.state.status != "initialized" or not starts or request is None:
            events = decide(self.state, command, SYSTEM, at)
            if not events:
                raise conflict(self.state, "The session cannot be activated.")
            return events, None, SYSTEM.principal
        planned = plan(self.state, request.command, request.caller, request.command_id, at)
        self._check_version(request, planned)
        return [activation(self.state, command), *planned.events], planned.command, request.caller.principal

    async def save_draft(
        self, index: int, text: str, revision: int | None, now: int, received_at: int | None = None
    ) -> DraftSaved:
        """Store the text in progress of the open question; durable on return. It was received at `received_at` (ms), by
        default `now`.

        Raises StateConflict if that question is not open, InvalidInput for an index out of range, and Moved (its owner:
        Fenced) if a newer owner has put its epoch on the draft.
        """
        await self.settle(now)
        at = now if received_at is None else min(received_at, now)
        await self._expire_if_overdue(at, now)
        while back := sign(self.state, max(at, self.state.at)):  # typing is a sign of the candidate
            if not await self._append(back, at, SYSTEM.principal, None):
                await self.settle(now)
        state = self.state
        if not 0 <= index < state.max_questions:
            raise InvalidInput.at(
                "/question_index",
                f"question_index is {index}; it must be from 0 to {state.max_questions - 1}.",
            )
        if state.open is None or state.open.index != index:
            raise conflict(state, f"Question {index} is not open; drafts are kept for the open question only.")
        current = self.draft.revision if self.draft and self.draft.question_index == index else 0
        wanted = current + 1 if revision is None else revision
        if wanted < current:
            return DraftSaved(current, False)
        draft = Draft(state.session_id, index, state.epoch, wanted, text, at)
        try:
            saved = await self.journal.save_draft(draft)
        except Retryable as error:
            self.note_blocked(error.fields.get("since", at))
            raise
        if saved:
            self.draft = draft
            return DraftSaved(wanted, True)
        stored = await self._stored_draft(index)
        if stored is not None and stored.epoch > state.epoch:
            if self.owned:
                self._fence()
            raise Moved("The session has just been taken up elsewhere.", session_id=state.session_id, retry_after=1)
        self.draft = stored or self.draft
        return DraftSaved(stored.revision if stored else current, False)

    async def _stored_draft(self, index: int) -> Draft | None:
        loaded = await self.journal.load(self.state.session_id)
        draft = loaded.draft if loaded is not None else None
        return draft if draft is not None and draft.question_index == index else None

    def note_blocked(self, since: int, until: int | None = None) -> None:
        """Nothing could be made durable from `since` until `until` (both ms; None: it still cannot): to be credited
        when something can."""
        if self._blocked is not None:
            before, ended = self._blocked
            since, until = min(since, before), None if until is None or ended is None else max(until, ended)
        self._blocked = (since, until)

    async def confirm(self) -> None:
        """See that nobody has taken the session over or changed it. Raises Fenced, NotFound or a Retryable."""
        try:
            fresh = await Session.load(self.journal, self.state.session_id)
        except NotFound:
            self.fenced = True
            raise
        if fresh.state.epoch > self.state.epoch:
            self._fence()
        if fresh.state.seq > self.state.seq and self._pending is None:
            self.state, self.draft = fresh.state, fresh.draft

    async def settle(self, now: int) -> None:
        """Finish what an unknown outcome left open, then credit the time in which nothing was durable."""
        if self.fenced:
            self._fence()
        loop = asyncio.get_running_loop()
        began = loop.time()

        def goes_on() -> int:
            """The time (ms) now, after what this has awaited: nothing was durable meanwhile."""
            return now + round((loop.time() - began) * 1000)

        while self._pending is not None:
            await self._write(self._pending, goes_on())
        if self._draft_unclaimed:
            await self._claim_draft(goes_on())
        for _ in range(2):  # a second time for what is noted while the first is written
            if self._blocked is not None:
                await self._credit(goes_on())

    async def _credit(self, now: int) -> None:
        """Give back the time in which nothing was durable. What is noted meanwhile stays noted.

        The time that the credit itself takes does not count: with a slow storage each credit would cause the next, and
        whoever waits for it waits for a command, whose time counts from its receipt.
        """
        assert self._blocked is not None
        (since, until), self._blocked = self._blocked, None
        at = max(now, until or now)
        events = decide(self.state, Credit(since, "storage_unavailable", until), SYSTEM, at)
        written = not events
        try:
            written = written or await self._append(events, at, SYSTEM.principal, None, slow_counts=False)
        finally:
            if not written:
                self.note_blocked(since, until)

    async def _claim_draft(self, now: int) -> None:
        """Put this epoch on the open question's draft: what an older owner saves from here on is refused, and what
        it saved before is read."""
        question = self.state.open
        while question is not None:
            stored = await self._stored_draft(question.index)
            if stored is not None:
                claimed = replace(stored, epoch=self.state.epoch)
            else:
                claimed = Draft(self.state.session_id, question.index, self.state.epoch, 0, "", now)
            if await self.journal.save_draft(claimed):
                self.draft = claimed
                break
            if stored is not None and stored.epoch > self.state.epoch:
                self._fence()
        self._draft_unclaimed = False

    async def _expire_if_overdue(self, at: int, now: int) -> None:
        """Fire what is due at `at`. A running clock is judged by its owner alone, who knows what has to be credited
        first."""
        if self.state.status == "in_progress" and not self.owned:
            return
        while self.state.is_overdue(at):
            if not await self._append(decide(self.state, Expire(), SYSTEM, at, self.draft), at, SYSTEM.principal, None):
                await self.settle(now)

    def _check_version(self, request: Request, planned: Plan) -> None:
        if planned.replayed:
            return
        if request.if_match is not None and request.if_match != self.state.version:
            raise StaleVersion(
                f"If-Match names version {request.if_match}; the session is at version {self.state.version}.",
                version=self.state.version,
            )

    async def _append(
        self,
        events: list[Event],
        at: int,
        principal: str,
        identity: tuple[str, str] | None,
        *,
        slow_counts: bool = True,
    ) -> bool:
        """Append one entry. True: it is in. False: decide again, since another entry came first and the state is newer
        now, or since an outage is over that has to be credited first."""
        state = self.state
        epoch = next((e["epoch"] for e in events if e["type"] == "activated"), state.epoch)
        entry = new_entry(
            state.session_id,
            state.next_seq,
            epoch,
            max(at, state.at),
            events,
            by=principal,
            command=identity,
            tombstone=any(e["type"] == "deleted" for e in events),
        )
        return await self._write(with_notices(entry, state, policy_of(state), events), at, slow_counts)

    async def _write(self, entry: Entry, now: int, slow_counts: bool = True) -> bool:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            result = await self.journal.append(entry, self.state.mac)
        except Retryable as error:
            # What was certainly not written is decided again, with the time that was lost taken into account.
            certainly_not = isinstance(error, Unavailable) and self._pending is None
            self._pending = None if certainly_not else entry
            self.note_blocked(min(now, error.fields.get("since", now)))
            raise
        if isinstance(result, Outage):
            self.note_blocked(result.since, result.until)
            if self._pending is not None and is_expiry(entry):
                self._pending = None  # it is judged again; whether it has landed after all, the next entry finds out
            return False
        self._pending = None
        if isinstance(result, Appended):
            self.state = fold(self.state, _with_mac(entry, result.mac), self._news)
            took = loop.time() - began
            if slow_counts and took > SLOW_APPEND_SECONDS:
                self.note_blocked(now, now + round(took * 1000))
            return True
        await self._lost_the_race(result.stored)
        return False

    async def _lost_the_race(self, stored: Entry) -> None:
        """Somebody else wrote this seq: a newer owner fences us, anything else is read and folded in."""
        state = self.state
        if stored.tombstone or (self.owned and stored.epoch > state.epoch):
            if stored.tombstone:
                self.fenced = True
                raise NotFound.session(state.session_id)
            self._fence()
        fresh = await Session.load(self.journal, state.session_id)
        if self.owned and fresh.state.epoch > state.epoch:
            self._fence()
        self.state, self.draft = fresh.state, fresh.draft

    def _fence(self) -> NoReturn:
        """Write nothing more: a newer owner holds the session."""
        if not self.fenced:
            self.fenced = True
            log.warning("fenced", extra={"session_id": self.state.session_id, "epoch": self.state.epoch})
        raise Fenced("A newer owner holds this session.", session_id=self.state.session_id)


def delete_request(caller: Caller, now: int, if_match: int | None = None) -> Request:
    return Request(Delete(), caller, now, None, if_match)


def _with_mac(entry: Entry, mac: str) -> Entry:
    return Entry(entry.session_id, entry.seq, entry.epoch, entry.at, entry.body, entry.digest, mac, entry.tombstone)
