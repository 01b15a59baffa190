"""A small world for unit tests: a journal in memory that can fail on purpose, and a clock that jumps."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.errors import OutcomeUnknown, Unavailable
from orchestrator.interview.commands import Accommodations, Caller, Create, Question
from orchestrator.interview.decide import created
from orchestrator.interview.entry import Entry, new_entry
from orchestrator.interview.fold import fold
from orchestrator.interview.snapshot import Draft, Snapshot
from orchestrator.interview.state import State, snapshot_of
from orchestrator.journal import Appended, Collision, Loaded, Outage

STAFF = Caller("staff", "staff")
CANDIDATE = Caller("candidate", "candidate")
T0 = 1_700_000_000_000


@dataclass
class Clock:
    """A wall clock in ms that moves only when told to."""

    now: int = T0

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> int:
        self.now += round(seconds * 1000)
        return self.now


@dataclass
class MemoryJournal:
    """The Journal protocol over dictionaries. `faults` holds what the next appends do instead of working:
    "lost_reply" writes and then fails, "away" fails without writing, "unavailable" too and says so."""

    entries: dict[tuple[str, int], Entry] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    drafts: dict[tuple[str, int], Draft] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    appends: int = 0
    outage: Outage | None = None
    """What those who watch the storage are told."""
    heard: int | None = None
    """Until when the one who watches has heard of outages."""
    news_seconds: float = 0.5
    """How long the news of an outage takes."""
    slow: float = 0.0
    """Seconds that every append takes."""

    async def append(self, entry: Entry, prev_mac: str) -> Appended | Collision | Outage:
        self.appends += 1
        await asyncio.sleep(self.slow)
        if self.outage is not None and self.heard is not None and self.outage.until > self.heard:
            self.heard = self.outage.until
            return self.outage
        fault = self.faults.pop(0) if self.faults else None
        if fault == "away":
            raise OutcomeUnknown("away")
        if fault == "unavailable":
            raise Unavailable("certainly not written")
        stored = self.entries.get((entry.session_id, entry.seq))
        if stored is not None:
            return Appended(stored.mac) if stored.is_same_write(entry) else Collision(stored)
        mac = hashlib.sha256(f"{prev_mac}{entry.digest}".encode()).hexdigest()
        self.entries[(entry.session_id, entry.seq)] = replace(entry, mac=mac)
        if fault == "lost_reply":
            raise OutcomeUnknown("the reply was lost")
        return Appended(mac)

    async def next_outage(self, after: int) -> Outage | None:
        self.heard = max(after, self.heard or after)
        while self.outage is None or self.outage.until <= after:
            await asyncio.sleep(self.news_seconds)
        return self.outage

    async def load(self, session_id: str) -> Loaded | None:
        entries = [e for (s, _), e in sorted(self.entries.items()) if s == session_id]
        if not entries or entries[-1].tombstone:
            return None
        drafts = [d for (s, _), d in sorted(self.drafts.items()) if s == session_id]
        return Loaded(None, entries, drafts[-1] if drafts else None)

    async def save_snapshot(self, snapshot: Snapshot) -> bool:
        old = self.snapshots.get(snapshot.session_id)
        if old is not None and old.seq >= snapshot.seq:
            return False
        self.snapshots[snapshot.session_id] = snapshot
        return True

    async def insert_snapshot(self, snapshot: Snapshot) -> bool:
        return await self.save_snapshot(snapshot)

    async def save_draft(self, draft: Draft) -> bool:
        old = self.drafts.get((draft.session_id, draft.question_index))
        if old is not None and (old.epoch > draft.epoch or old.revision > draft.revision):
            return False
        self.drafts[(draft.session_id, draft.question_index)] = draft
        return True


def create_command(questions: int = 3, **changes: Any) -> Create:
    """A session of some questions, every second one coding."""
    asked = tuple(Question(f"Question {i}?", "coding" if i % 2 else "text") for i in range(questions))
    values: dict[str, Any] = {"name": "Ada", "email": "Ada@example.com", "questions": asked, **changes}
    return Create(**values)


def first_entry(session_id: str = "s1", at: int = T0, **changes: Any) -> Entry:
    return new_entry(session_id, 1, 0, at, created(create_command(**changes)), by="staff")


async def new_session(journal: MemoryJournal, session_id: str = "s1", at: int = T0, **changes: Any) -> State:
    """A stored session that waits to be started."""
    entry = first_entry(session_id, at, **changes)
    appended = await journal.append(entry, "")
    assert isinstance(appended, Appended)
    state = fold(None, replace(entry, mac=appended.mac))
    await journal.insert_snapshot(snapshot_of(state))
    return state


DOUBLE_TIME = Accommodations(time_multiplier=2.0)
