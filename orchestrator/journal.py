"""What the journal answers, and the protocol through which a session's owner sees it.

Interview actors know the journal only by this page, so that their processes never import a database
driver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from orchestrator.interview.entry import Entry
from orchestrator.interview.snapshot import Draft, Snapshot
from orchestrator.interview.wire import Wire


@dataclass(frozen=True, slots=True)
class Appended(Wire):
    """The entry is durable; `mac` is its link in the chain."""

    mac: str


@dataclass(frozen=True, slots=True)
class Collision(Wire):
    """Another entry has this seq; it is carried here, and nothing was written."""

    stored: Entry


@dataclass(frozen=True, slots=True)
class Loaded(Wire):
    """A session as it is stored: a snapshot, the entries after it, and the open question's draft."""

    snapshot: Snapshot | None
    entries: list[Entry]
    draft: Draft | None


@dataclass(frozen=True, slots=True)
class Outage(Wire):
    """The storage could not be used from `since` until `until` (both ms)."""

    since: int
    until: int


class Journal(Protocol):
    """Everything that a session's owner needs of the storage.

    Every call raises Unavailable (nothing was written) or OutcomeUnknown (repeat it unchanged). Where it is known
    since when (ms) the storage cannot be used, the error says so in its field `since`.
    """

    async def append(self, entry: Entry, prev_mac: str) -> Appended | Collision | Outage:
        """Make an entry durable. An Outage: this call wrote nothing, since the caller had not heard yet that the
        storage was away; it has now."""
        ...

    async def load(self, session_id: str) -> Loaded | None: ...

    async def save_snapshot(self, snapshot: Snapshot) -> bool: ...

    async def insert_snapshot(self, snapshot: Snapshot) -> bool: ...

    async def save_draft(self, draft: Draft) -> bool: ...


class WatchedJournal(Journal, Protocol):
    """The journal as an actor sees it, which has to know of outages in which it sent nothing itself."""

    async def next_outage(self, after: int) -> Outage | None:
        """Wait for an outage that ends after `after` (ms) to be over; None if there was none for a while.

        From the first call on, appends answer with an outage that has not been told, and write nothing then: no
        deadline, pause or answer is judged by a clock that ran while nothing could be done.
        """
        ...
