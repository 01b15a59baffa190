"""What the front end calls: commands to whoever holds a session, queries to the storage.

    session is ...                       its commands run ...
    initialized, completed, parked       here, by optimistic append
    in progress                          in its actor; found by name, by the Registry if the name is stale

A command keeps its identity through every resend, so a call that failed although it ran is harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import secrets
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from actors import cluster, metrics
from actors.buckets import Buckets
from actors.clock import wall_ms
from actors.figures import Figures
from actors.holders import Holder, Holders, Placements
from actors.interview import Activation
from actors.rooms import SessionRooms
from actors.stills import SessionPictures
from actors.supervisor import Placement
from actors.tail import JournalTail
from orchestrator import faults
from orchestrator.errors import (
    Fenced,
    InvalidInput,
    Moved,
    NotFound,
    OrchestratorError,
    OutcomeUnknown,
    Retryable,
    StateConflict,
    Unavailable,
)
from orchestrator.interview.commands import (
    Caller,
    Command,
    Create,
    NewLink,
    NoteSightings,
    Start,
    check_same_body,
    command_hash,
    command_key,
    command_name,
)
from orchestrator.interview.decide import created
from orchestrator.interview.entry import Entry, new_entry
from orchestrator.interview.fold import fold
from orchestrator.interview.outbox import with_notices
from orchestrator.interview.proctoring import is_repeat
from orchestrator.interview.sightings import Sighting
from orchestrator.interview.state import State, dump_state, load_state, snapshot_of
from orchestrator.interview.view import iso, session_view
from orchestrator.journal import Collision
from orchestrator.livekit import LiveKit
from orchestrator.policies import policy_of
from orchestrator.session import DraftSaved, Reply, Request, Session, delete_request, state_of
from orchestrator.settings import Settings
from orchestrator.storage.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

COMMAND_SECONDS = 3.5
SUSPECT_SECONDS = 2.0
RESEND_SECONDS = 0.005
UNHURRIED = frozenset({"note"})
"""Calls that an actor may take its time with."""
START_CALL_SECONDS = 15.0
RECOVER_SECONDS = 60.0
NOTES_AT_ONCE, NOTES_A_SECOND = 20.0, 1.0
"""Calls with what was seen that are taken of a session without an actor."""
MAX_RECENT = 1_000
RECENT_SECONDS = 1.0
"""Actors save snapshots sooner than this after a change."""


class InterviewClient:
    """One front end's way to sessions. Holds handles of actors, and no other state that matters."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store
        self.livekit = LiveKit(settings, store.secret)
        self.rooms = SessionRooms(self.livekit, self, settings.network_credit_ms)
        self.tail = JournalTail(store)
        self.figures = Figures(store.stats)
        self._buckets = Buckets(NOTES_AT_ONCE, NOTES_A_SECOND)
        self.pictures = SessionPictures(settings, self, store.secret)
        self._proctoring = {"policy": settings.proctoring_policy, "frame_seconds": settings.frame_seconds}
        self._holders = Holders()
        self._registry: Any = None
        self._asked: asyncio.Task[dict[str, bool]] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._learning: asyncio.Task[None] | None = None
        self._recent: dict[str, tuple[int, float]] = {}

    @classmethod
    async def connect(cls, settings: Settings) -> InterviewClient:
        """Join the Ray cluster and the database, and see that the system's actors exist."""
        from actors.storage import open_store

        await asyncio.to_thread(cluster.connect, settings.ray_address or "auto", settings.namespace)
        cluster.restore_signal_handlers()
        client = cls(settings, await open_store())
        await client._ensure_registry()
        await cluster.ensure_housekeeper()
        client.livekit.start()
        client._learning = client._spawn(client._holders.learn_for_ever(client._held))
        return client

    async def close(self) -> None:
        if self._learning is not None:
            self._learning.cancel()
        await self.livekit.close()
        await self.store.close()
        await asyncio.to_thread(cluster.disconnect)

    # Commands

    async def create(self, command: Create, caller: Caller, command_id: str | None = None) -> Reply:
        """Make a session and its room; no actor is needed. The same id from the same caller is the same session."""
        with metrics.timed("create") as timed:
            reply = await self._create(command, caller, command_id)
            timed.replayed = reply.replayed
        return reply

    async def _create(self, command: Create, caller: Caller, command_id: str | None) -> Reply:
        session_id = self._new_session_id(caller, command_id)
        room = await self.rooms.first(session_id, command.scheduled_at)
        now = wall_ms()
        identity = None
        if command_id is not None:
            identity = (command_key(caller, command, command_id), command_hash(command))
        entry = new_entry(
            session_id, 1, 0, now, created(command, room, self._proctoring), by=caller.principal, command=identity
        )
        entry = with_notices(replace(entry, mac=self.store.mac(entry, "")), None, None)
        state = fold(None, entry)
        result = await self.store.create(entry, snapshot_of(state))
        if isinstance(result, Collision):
            return await self._created_before(result.stored, command, caller)
        return Reply(session_view(state, now, caller.role, policy_of(state)), state.version)

    async def send(
        self,
        session_id: str,
        command: Command,
        caller: Caller,
        command_id: str | None = None,
        if_match: int | None = None,
    ) -> Reply:
        """Run a command on a session, wherever it is held. Durable on return.

        Raises what `decide` raises, NotFound, StaleVersion, or a Retryable within 4 s.
        """
        if command_id is None and (if_match is not None or isinstance(command, NewLink)):
            command_id = secrets.token_hex(16)  # so that sending it again here changes nothing
        request = Request(command, caller, wall_ms(), command_id, if_match)
        with metrics.timed(command_name(command)) as timed:
            reply = await self._until_executed(session_id, request)
            timed.replayed = reply.replayed
        faults.step("front_end.reply", session_id)
        self.tail.nudge(session_id)
        self._recent.pop(session_id, None)
        self._recent[session_id] = (reply.version, _loop_time())
        if len(self._recent) > MAX_RECENT:
            del self._recent[next(iter(self._recent))]
        return reply

    async def draft(
        self, session_id: str, index: int, text: str, revision: int | None, caller: Caller
    ) -> dict[str, Any]:
        """Keep the text in progress of the open question: {"revision": highest stored, "saved": bool}."""
        args = (index, text, revision, wall_ms())
        with metrics.timed("save_draft"):
            saved: DraftSaved = await self._with_holder(
                session_id, lambda session: session.save_draft(*args), "save_draft", args
            )
        return {"revision": saved.revision, "saved": saved.saved}

    async def note(
        self, session_id: str, sightings: tuple[Sighting, ...], caller: Caller, identity: tuple[str, str] | None
    ) -> Reply:
        """Take in what was seen of an interview. `identity`: (key, hash) of the call. Durable on return.

        Raises StateConflict once it is completed, CommandIdReused, TooManyRequests, NotFound, or a Retryable.
        """
        keyed = ((*identity, sightings),) if identity is not None else ()
        command = NoteSightings(sightings if identity is None else (), keyed)

        async def note_here(session: Session) -> Reply:
            now = wall_ms()
            if is_repeat(session.state, identity):
                return Reply(session.view(now, caller.role), session.state.version, True)
            self._buckets.take(session_id)  # there is no actor here that gathers
            return await self._execute_here(session, Request(command, caller, now))

        with metrics.timed("note") as timed:
            reply = await self._with_holder(session_id, note_here, "note", (sightings, caller, identity))
            timed.replayed = reply.replayed
        self.tail.nudge(session_id)
        return reply

    async def _with_holder(
        self, session_id: str, here: Callable[[Session], Awaitable[T]], method: str, args: tuple[Any, ...]
    ) -> T:
        """Have the session's actor do something, or do it here for a session that has none."""
        give_up, lost, pause = _loop_time() + COMMAND_SECONDS, None, RESEND_SECONDS
        while True:
            name = None
            try:
                holder = await self._holder(session_id, lost, give_up)
                if isinstance(holder, Session):
                    return await here(holder)
                name, handle = holder
                return await self._call(session_id, name, handle, method, (session_id, *args), give_up)
            except (Moved, Fenced, cluster.ActorGone, cluster.ActorSilent) as error:
                lost = name or lost
                pause = await self._before_resend(session_id, error, give_up, pause)

    async def delete(self, session_id: str, caller: Caller, if_match: int | None = None) -> None:
        """Put the tombstone, end the actor, remove the rest. What a crash leaves, the Housekeeper finishes."""
        session = await Session.load(self.store, session_id)
        await session.execute(delete_request(caller, wall_ms(), if_match), wall_ms())
        self._holders.forget(session_id)
        self.tail.nudge(session_id)
        await self.store.erase(session_id)
        self._spawn(self._end_actor(session_id))
        self.rooms.close_soon(session_id)

    # Queries

    async def catch_up(self) -> None:
        """Bring the snapshots of what was changed here a moment ago up to date, so that lists show it."""
        since = _loop_time() - RECENT_SECONDS
        self._recent = {s: (version, at) for s, (version, at) in self._recent.items() if at >= since}
        if not self._recent:
            return
        stored = await self.store.versions(list(self._recent))
        behind = [s for s, (version, _) in self._recent.items() if stored.get(s, version) < version]
        await asyncio.gather(*(self._bring_forward(s) for s in behind))

    async def _bring_forward(self, session_id: str) -> None:
        with contextlib.suppress(NotFound):
            await self.store.save_snapshot(snapshot_of(await self.read(session_id)))

    async def read(self, session_id: str) -> State:
        """The state of a session as stored: a snapshot and the entries after it. Raises NotFound."""
        loaded = await self.store.load_without_draft(session_id)
        if loaded is None:
            raise NotFound.session(session_id)
        if loaded.snapshot is None:
            return (await Session.load(self.store, session_id)).state
        return state_of(loaded)

    async def actor_counts(self) -> dict[str, int | None]:
        """Live and warm actors and capacity; None for each while the Registry is away."""
        keys = ("live_actors", "warm_actors", "capacity")
        try:
            status = await self._registry_call("status", timeout=2.0)
        except Retryable:
            return dict.fromkeys(keys)
        return {key: status[key] for key in keys}

    async def cluster(self) -> dict[str, Any]:
        """Live and warm actors, capacity, and the nodes."""
        status = await self._registry_call("status", timeout=3.0)
        placements, draining = status.pop("placements"), status.pop("draining")
        live, warm = status.pop("live_by_node", {}), status.pop("warm_by_node", {})  # an older Registry does not say
        parked = [load_state(snapshot.state) for snapshot in await self.store.parked(100)]
        nodes = [
            {
                "node": n.node_id,
                "address": n.address,
                "alive": n.alive,
                "cpu": n.cpu,
                "memory_bytes": n.memory,
                "draining": n.node_id in draining,
                "live_on_draining": draining.get(n.node_id),
                "live_interviews": live.get(n.node_id, 0),
                "warm_actors": warm.get(n.node_id, 0),
            }
            for n in await cluster.nodes()
        ]
        return {
            **status,
            "sessions_held": len(placements),
            "parked": [{"session_id": s.session_id, "reason": s.parked, "since": iso(s.parked_since)} for s in parked],
            "nodes": nodes,
        }

    async def drain(self, node: str, draining: bool) -> int | None:
        """Empty a node of interviews, or take it into use again: the interviews still on it, None if it is in use.

        `node` is a node's id or its beginning. Raises NotFound, InvalidInput if several begin so, or a Retryable.
        """
        found = [n.node_id for n in await cluster.nodes() if n.alive and n.node_id.startswith(node)]
        if not found:
            raise NotFound(f"There is no live node {node[:64]!r}.")
        if len(found) > 1:
            raise InvalidInput.at("/node", f"{len(found)} nodes begin with {node[:64]!r}; give more of the id.")
        await self._registry_call("drain", found[0], draining, timeout=5.0)
        return (await self._registry_call("status", timeout=3.0))["draining"].get(found[0])

    async def recover(self, dry_run: bool) -> dict[str, str]:
        """Take up sessions in progress that nobody holds: what became of each, by its id."""
        return await self._registry_call("recover", dry_run, timeout=RECOVER_SECONDS)

    async def ready(self) -> dict[str, bool]:
        """Whether MongoDB and Ray answer now. Whoever asks meanwhile gets the same answer: anybody may ask."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(self._parts())
        return await asyncio.shield(self._asked)

    async def _parts(self) -> dict[str, bool]:
        mongodb = ray = True
        try:
            await self.store.ping()
        except OrchestratorError:
            mongodb = False
        try:
            ray = bool(await self._registry_call("ping", timeout=2.0))
        except OrchestratorError:
            ray = False
        return {"mongodb": mongodb, "ray": ray}

    # How commands find their session

    async def _until_executed(self, session_id: str, request: Request) -> Reply:
        give_up, lost, pause = _loop_time() + COMMAND_SECONDS, None, RESEND_SECONDS
        while True:
            name = None
            try:
                holder = await self._holder(session_id, lost, give_up)
                if isinstance(holder, Session):
                    return await self._execute_here(holder, request)
                name, handle = holder
                return await self._call(session_id, name, handle, "execute", (session_id, request), give_up)
            except (Moved, Fenced, cluster.ActorGone, cluster.ActorSilent) as error:
                lost = name or lost
                pause = await self._before_resend(session_id, error, give_up, pause)

    async def _holder(self, session_id: str, lost: str | None, give_up: float) -> Session | Holder:
        """The actor that holds a session, or the session itself if it needs none. `lost` is one that did not."""
        known = self._holders.get(session_id)
        if known is not None:
            return known
        session = await Session.load(self.store, session_id)
        state = session.state
        if state.status != "in_progress" or state.parked is not None:
            return session
        name, handle = state.actor, None
        if name is not None and name != lost:
            handle = await _within(max(0.1, give_up - _loop_time()), cluster.find(name))
        if handle is None or name is None:
            try:
                left = max(0.1, give_up - _loop_time())
                placement: Placement = await self._registry_call("ensure", session_id, lost, timeout=left)
            except NotFound:
                raise Moved("The session has just ended or moved.", retry_after=1) from None
            name = placement.actor
            handle = await _within(max(0.1, give_up - _loop_time()), cluster.find(name))
            if handle is None:
                raise Moved("The session is moving to another actor.", retry_after=1)
        holder = Holder(name, handle)
        self._holders.keep(session_id, holder)
        return holder

    async def _execute_here(self, session: Session, request: Request) -> Reply:
        state = session.state
        startable = state.status == "initialized" or (state.parked is not None and request.caller.role == "staff")
        if isinstance(request.command, Start) and startable:
            return await self._start(session, request)
        before = state.seq
        reply = await session.execute(request, wall_ms())
        if session.state.seq != before:
            await self._save(session)
        return reply

    async def _start(self, session: Session, request: Request) -> Reply:
        """Activation and start are one entry, written by the actor that takes the session."""
        state = session.state
        activation = Activation(
            state.session_id,
            dump_state(state),
            "start" if state.parked is None else "retry",
            request,
            session.draft,
            state.parked_since,
            retry=state.parked is not None,
        )
        wait = self.settings.start_wait_seconds + START_CALL_SECONDS
        placement: Placement = await self._registry_call("activate", activation, timeout=wait)
        if placement.reply is None:
            self._holders.forget(state.session_id)
            raise Moved("The session was taken by another call.", retry_after=1)
        self._spawn(self._remember(state.session_id, placement.actor))
        self._spawn(self._show_as_started(state.session_id))
        return placement.reply

    async def _show_as_started(self, session_id: str) -> None:
        """Sweeps look at snapshots; the actor saves its own a moment after the start, unless it dies in that moment."""
        with contextlib.suppress(OrchestratorError):
            await self._bring_forward(session_id)

    async def _remember(self, session_id: str, actor: str) -> None:
        handle = await cluster.find(actor)
        if handle is not None:
            self._holders.keep(session_id, Holder(actor, handle))

    async def _held(self) -> Placements:
        return await self._registry_call("held", timeout=5.0)

    async def _call(
        self, session_id: str, name: str, handle: Any, method: str, args: tuple[Any, ...], give_up: float
    ) -> Any:
        """One call to an actor; after 2 s without an answer the Registry is told to look at it."""
        label = f"interview {session_id}: {_what(method, args)}"
        left = max(0.1, give_up - _loop_time())
        since = wall_ms()
        task = asyncio.ensure_future(cluster.call(handle, method, *args, label=label, timeout=left))
        done, _ = await asyncio.wait({task}, timeout=min(SUSPECT_SECONDS, left))
        if not done and method not in UNHURRIED:
            suspicion = self._spawn(self._suspect(session_id, name, since))
            await asyncio.wait({task, suspicion}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and suspicion.result():
                task.cancel()
                raise cluster.ActorSilent("The session has moved; the command is sent again.", retry_after=1)
        return await task

    async def _before_resend(self, session_id: str, error: Retryable, give_up: float, pause: float) -> float:
        """Forget who held the session, and wait a little. The next pause; raises OutcomeUnknown if time is over."""
        self._holders.forget(session_id)
        if _loop_time() + pause >= give_up:
            raise OutcomeUnknown(
                "The session is being moved to another machine; repeat the request with the same key.",
                retry_after=1,
            ) from error
        await asyncio.sleep(pause)
        return min(2 * pause, 0.1)

    async def _suspect(self, session_id: str, name: str, since: int) -> bool:
        """Have the Registry look at a silent actor. True: somebody else holds its session now."""
        try:
            return await self._registry_call("suspect", session_id, name, since, timeout=10.0)
        except OrchestratorError as error:
            log.info("the registry could not be told", extra={"reason": error.code})
            return False

    async def _end_actor(self, session_id: str) -> None:
        try:
            await self._registry_call("end", session_id, timeout=5.0)
        except OrchestratorError as error:
            log.info("the actor is ended later", extra={"reason": error.code})

    async def _registry_call(self, method: str, *args: Any, timeout: float) -> Any:
        """A call to the Registry; while it restarts, the call is repeated for up to 3 s."""
        give_up = _loop_time() + min(timeout, 3.0)
        deadline = _loop_time() + timeout
        while True:
            try:
                registry = self._registry or await _within(max(0.1, give_up - _loop_time()), self._ensure_registry())
                return await cluster.call(registry, method, *args, timeout=max(0.1, deadline - _loop_time()))
            except (cluster.ActorGone, cluster.ActorAway) as error:
                self._registry = None
                if _loop_time() >= give_up:
                    raise Unavailable("The registry is restarting; try again soon.", retry_after=1) from error
                await asyncio.sleep(0.1)
            except cluster.ActorSilent as error:
                raise OutcomeUnknown(
                    "The registry does not answer; repeat the request with the same key.", retry_after=1
                ) from error

    async def _ensure_registry(self) -> Any:
        self._registry = await cluster.ensure_registry()
        return self._registry

    async def _save(self, session: Session) -> None:
        try:
            await self.store.save_snapshot(snapshot_of(session.state))
        except OrchestratorError as error:
            log.debug("snapshot not saved", extra={"reason": error.code})

    async def _created_before(self, stored: Entry, command: Create, caller: Caller) -> Reply:
        if stored.erased:
            self.rooms.close_soon(stored.session_id)
            raise StateConflict(
                "The session that this key created was deleted; use a new key.",
                current_status="deleted",
                allowed_actions=[],
            )
        known = stored.content()["command"]
        if known is None:
            raise InvalidInput("This session id is taken.")
        check_same_body(known[1], command_hash(command))
        state = await self.read(stored.session_id)
        if state.status == "completed":
            self.rooms.close_soon(state.session_id)
        view = session_view(state, wall_ms(), caller.role, policy_of(state))
        return Reply(view, state.version, replayed=True)

    def _new_session_id(self, caller: Caller, command_id: str | None) -> str:
        if command_id is None:
            return str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
        identity = "\0".join(("create", caller.principal, command_id)).encode()
        return str(uuid.UUID(bytes=hmac.digest(self.store.secret, identity, hashlib.sha256)[:16], version=4))

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _within(seconds: float, look_up: Awaitable[T]) -> T:
    """What Ray's control plane says, if it does in time. Raises ActorAway."""
    try:
        return await asyncio.wait_for(look_up, seconds)
    except TimeoutError as error:
        raise cluster.ActorAway("Ray's control plane does not answer in time.", retry_after=1) from error


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _what(method: str, args: tuple[Any, ...]) -> str:
    request = args[1] if len(args) > 1 else None
    return command_name(request.command) if isinstance(request, Request) else method
