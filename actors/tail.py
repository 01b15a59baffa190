"""JournalTail: tells whoever follows a session that its journal has grown.

What happens here is told at once (`nudge`); what happens elsewhere (another front end, an actor's timer) is found by
one query for all followed sessions, for the entry that would be each one's next. So following needs no actor, and
nothing of it is lost when one dies or a session moves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Protocol, Self

from orchestrator.errors import OrchestratorError

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25


class Entries(Protocol):
    """The part of Store that is needed here."""

    async def grown(self, seqs: dict[str, int]) -> set[str]: ...


class Follower:
    """One reader of a session's journal, who has read it up to event `seq` and keeps that up to date. Used as a context
    manager."""

    def __init__(self, tail: JournalTail, session_id: str, seq: int) -> None:
        self.session_id = session_id
        self.seq = seq
        self._tail = tail
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    def about_to_read(self) -> None:
        """What wakes it from here on is news."""
        self._woken.clear()

    async def wait(self, seconds: float) -> None:
        """Until the journal has grown, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # wait_for may lose a cancellation that comes in the same moment
                await self._woken.wait()

    @property
    def is_woken(self) -> bool:
        return self._woken.is_set()

    def __enter__(self) -> Self:
        self._tail.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._tail.remove(self)


class JournalTail:
    """The followers of one process. It polls only while there are some."""

    def __init__(self, store: Entries) -> None:
        self._store = store
        self._followers: dict[str, set[Follower]] = {}
        self._poller: asyncio.Task[None] | None = None

    def follow(self, session_id: str, seq: int) -> Follower:
        return Follower(self, session_id, seq)

    def nudge(self, session_id: str) -> None:
        """Something may have been entered just now."""
        for follower in self._followers.get(session_id, ()):
            follower.wake()

    def add(self, follower: Follower) -> None:
        self._followers.setdefault(follower.session_id, set()).add(follower)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.get_running_loop().create_task(self._poll())

    def remove(self, follower: Follower) -> None:
        followers = self._followers[follower.session_id]
        followers.discard(follower)
        if not followers:
            del self._followers[follower.session_id]

    async def _poll(self) -> None:
        while self._followers:
            await asyncio.sleep(POLL_SECONDS)
            asleep = [f for followers in self._followers.values() for f in followers if not f.is_woken]
            # Of a session with several readers the one that is furthest behind asks; the others look in vain.
            seqs: dict[str, int] = {}
            for follower in asleep:
                seqs[follower.session_id] = min(follower.seq, seqs.get(follower.session_id, follower.seq))
            try:
                for session_id in await self._store.grown(seqs) if seqs else ():
                    self.nudge(session_id)
            except OrchestratorError as error:
                log.debug("the journals cannot be looked at", extra={"reason": error.code})
            except Exception:
                log.exception("the journals cannot be looked at")
