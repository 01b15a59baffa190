"""What a Registry must know before it takes a session up: who owns it by the journal, and since when it is silent."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors import cluster
from actors.interview import Activation, Holding
from orchestrator.errors import NotFound, Retryable
from orchestrator.interview.state import State, dump_state
from orchestrator.session import state_of

if TYPE_CHECKING:
    from orchestrator.storage.store import Store

PING_SECONDS = 1.0
ACTOR_PREFIX = "InterviewActor-"
SUSPICION_MS = 3_000
"""A hung actor is known to the Registry after this, if anybody wanted something of it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A running actor. No holding: it does not answer."""

    name: str
    handle: Any
    holding: Holding | None

    def holds(self, session_id: str) -> bool:
        return self.holding is not None and self.holding.session_id == session_id


@dataclass(frozen=True, slots=True)
class Loss:
    """Actors that hold a session no longer, as far as is known, and since when (ms) nobody does: not later than who saw
    it last reached the storage, since before that nothing could be done either.

    `unsure`: those of them that could only not be reached, and are asked again.
    """

    actors: frozenset[str]
    since: int
    unsure: frozenset[str] = frozenset()

    def and_before(self, earlier: Loss | None) -> Loss:
        """With what was lost before and has not been made good."""
        if earlier is None:
            return self
        unsure = (self.unsure | earlier.unsure) - ((self.actors - self.unsure) | (earlier.actors - earlier.unsure))
        return Loss(self.actors | earlier.actors, min(self.since, earlier.since), unsure)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What is to be done about a session in progress: join its owner, or activate it and end the owner that hangs."""

    owner: Found | None
    activation: Activation | None
    hung: Any = None


async def look_at(name: str) -> Found | None:
    """An actor and what it holds; None if it is gone."""
    handle = await cluster.find(name)
    if handle is None:
        return None
    try:
        return Found(name, handle, await cluster.call(handle, "ping", timeout=PING_SECONDS))
    except cluster.ActorSilent:
        return Found(name, handle, None)
    except Retryable:
        return None


async def look_at_all(known: Collection[str]) -> list[tuple[Found, bool]]:
    """Every interview actor that is not known yet, and whether it is the newest of those that claim its session.

    Whether one that is silent owns anything, the journal will tell.
    """
    names = [name for name in await cluster.names() if name.startswith(ACTOR_PREFIX) and name not in known]
    found = [f for f in await asyncio.gather(*map(look_at, names)) if f is not None]
    newest: dict[str | None, int] = {}
    for holding in (f.holding for f in found if f.holding is not None):
        newest[holding.session_id] = max(holding.epoch, newest.get(holding.session_id, 0))
    return [(f, f.holding is not None and f.holding.epoch == newest[f.holding.session_id]) for f in found]


async def recovery_of(
    store: Store, session_id: str, cause: str, loss: Loss | None, gone: str | None = None
) -> Recovery | None:
    """How a session gets a holder again; None if it needs none. `gone`: an actor that is dead, nobody says since when.

    The time to be credited begins when the owner was lost, if that was seen, or else with the last proof of life of a
    Registry, which would have seen it; and not after the last proof of life of its node.
    """
    state, draft = None, None
    loaded = await store.load(session_id)
    if loaded is not None:
        state, draft = _state_or_none(loaded), loaded.draft
    if state is None or state.status != "in_progress" or state.parked is not None:
        return None
    was_seen = loss is not None and (state.actor is None or state.actor in loss.actors)
    is_dead = state.actor in (None, gone) or (loss is not None and state.actor in loss.actors - loss.unsure)
    owner = await look_at(state.actor) if state.actor is not None and not is_dead else None
    if owner is not None and owner.holds(session_id):
        return Recovery(owner, None)
    hung = owner.handle if owner is not None and owner.holding is None else None
    if was_seen and loss is not None:
        seen = loss.since
    else:
        seen = await store.last_alive(cluster.REGISTRY)
    if hung is not None:
        cause = "hung"
        seen = seen - SUSPICION_MS if seen is not None and not was_seen else seen
    alive = await store.last_alive(state.node) if state.node else None
    since = min((t for t in (seen, alive) if t is not None), default=state.at)
    if state.actor is None:
        since = state.at  # the journal says that nobody has held it since
    return Recovery(None, Activation(session_id, dump_state(state), cause, None, draft, since), hung)


def _state_or_none(loaded: Any) -> State | None:
    try:
        return state_of(loaded)
    except NotFound:
        return None
