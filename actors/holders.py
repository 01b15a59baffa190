"""Holders: the actors of live interviews, as one front end knows them.

A front end keeps the actor that it has called for a session. Ray finds one by its name only while there is a head, so
each front end also gets to know those that others call, in the background: a candidate whose front end has died with
the head goes on at any other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from actors import cluster
from orchestrator.errors import OrchestratorError, Retryable

log = logging.getLogger(__name__)

MAX_HOLDERS = 10_000
LEARN_SECONDS = 3.0
LEARN_AT_ONCE = 8
PING_SECONDS = 2.0

Placements = Mapping[str, str]
"""The actors that hold sessions, by the sessions' ids."""


class Holder(NamedTuple):
    """An actor that holds a session, as far as is known here."""

    name: str
    handle: Any


class Holders:
    """By session. What is kept may be wrong by now: whoever calls such an actor learns that, and has it forgotten."""

    def __init__(self) -> None:
        self._known: dict[str, Holder] = {}
        self._missed: set[str] = set()
        self._learning = asyncio.Semaphore(LEARN_AT_ONCE)

    def get(self, session_id: str) -> Holder | None:
        return self._known.get(session_id)

    def keep(self, session_id: str, holder: Holder) -> None:
        """The longest known is forgotten when there are too many."""
        self._known.pop(session_id, None)
        self._known[session_id] = holder
        if len(self._known) > MAX_HOLDERS:
            del self._known[next(iter(self._known))]

    def forget(self, session_id: str) -> None:
        self._known.pop(session_id, None)

    async def learn_for_ever(self, held: Callable[[], Awaitable[Placements]]) -> None:
        """Every few seconds get to know what is new among those that hold sessions."""
        while True:
            await asyncio.sleep(LEARN_SECONDS)
            try:
                await self.learn(await held())
            except OrchestratorError as error:
                log.debug("the registry does not say who holds what", extra={"reason": error.code})
            except Exception as error:  # one that is older than this front end cannot be asked
                log.warning("the registry does not say who holds what", extra={"reason": repr(error)})

    async def learn(self, placements: Placements) -> None:
        """Get to know these, and forget who was not among them, twice in a row."""
        missed = self._known.keys() - placements.keys()
        for session_id in missed & self._missed:
            self.forget(session_id)
        self._missed = set(missed)
        new = {s: name for s, name in placements.items() if (known := self.get(s)) is None or known.name != name}
        await asyncio.gather(*(self._meet(session_id, name) for session_id, name in new.items()))

    async def _meet(self, session_id: str, name: str) -> None:
        """Find an actor, and connect to it by a call, so that the next one needs nobody but the two of them."""
        before = self.get(session_id)
        async with self._learning:
            try:
                handle = await cluster.find(name)
                if handle is not None:
                    await cluster.call(handle, "ping", label=f"interview {session_id}: ping", timeout=PING_SECONDS)
                    if self.get(session_id) is before:  # else somebody here has called a newer one
                        self.keep(session_id, Holder(name, handle))
            except Retryable as error:
                log.debug("an actor is met later", extra={"session_id": session_id, "reason": error.code})
