"""Registry: activates interviews, supervises them, and keeps a pool of warm actors. One in the cluster.

It holds nothing that cannot be found again: who holds which session is asked of the live actors when it
starts, and the journal is the only lock. Supervising one interview is one await of its actor's `run`:

    run ended with ...       the session is ...
    completed, deleted       done
    parked, refused          nobody's; staff or the caller decide
    released, fenced         taken up again, unless the journal names an owner that lives
    no reason: it died       taken up again, with the time since the last proof of life credited

An actor that hangs raises nothing: a front end or the Housekeeper says `suspect`, and it is pinged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors import cluster
from actors.capacity import Capacity
from actors.clock import wall_ms
from actors.interview import Activation, DeactivationReason
from actors.pool import Warm, WarmPool
from actors.recovery import ACTOR_PREFIX, PING_SECONDS, Found, Loss, look_at_all, recovery_of
from actors.watchdog import Watchdog
from orchestrator import logs
from orchestrator.errors import NotFound, OrchestratorError, Retryable, Unavailable
from orchestrator.interview.commands import SYSTEM, Park
from orchestrator.interview.state import MAX_FRUITLESS_ACTIVATIONS, snapshot_of
from orchestrator.session import Reply, Request, Session
from orchestrator.settings import get_settings

if TYPE_CHECKING:
    from orchestrator.storage.store import Store

log = logging.getLogger(__name__)

ROUND_SECONDS = 1.0
ATTEMPT_SECONDS = 3.0
"""An actor that has not taken a session after this is thrown away for another one."""
ACTIVATION_SECONDS = 8.0
URGENT_WAIT_SECONDS = 60.0
RELEASE_SECONDS = 5.0
NOTICE_SECONDS = 1.0
GIVE_UP_SECONDS = 60.0
AWAY_SECONDS = 2.0
RECOVER_AT_ONCE = 8
RECOVER_EVERY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a session is held now, and what became of the command that caused the activation."""

    actor: str
    reply: Reply | None


@dataclass(slots=True)
class Live:
    """One interview under supervision."""

    session_id: str
    actor: str
    handle: Any
    node: str


class Registry:
    """The supervisor. Errors are returned as values."""

    def __init__(self, name: str) -> None:
        logs.configure()
        cluster.raise_priority(0)
        self._name = name
        self._settings = get_settings()
        self._store: Store | None = None
        self._live: dict[str, Live] = {}
        self._activating: dict[str, asyncio.Task[Placement | OrchestratorError]] = {}
        self._replacements: dict[str, Warm] = {}
        self._has_recovered = False
        self._known: set[str] = set()
        self._silent: dict[str, float] = {}
        self._draining: set[str] = set()
        self._emptying: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._recovering: asyncio.Task[dict[str, str]] | None = None
        wanted = self._settings.warm_actors
        self._capacity = Capacity(self._settings.actor_cpus, self._actor_memory)
        self._pool = WarmPool(
            self._start_actor,
            wanted,
            max(1, min(os.cpu_count() or 1, 4)),
            reserve=(wanted + 2) // 4 if wanted > 1 else 0,
            room=self._capacity.room,
            usable=lambda node: node not in self._draining,
        )
        self._watchdog = Watchdog()
        self._ready = asyncio.Event()
        self._main = asyncio.get_running_loop().create_task(self._start_then_watch())

    def __repr__(self) -> str:
        return self._name

    # What front ends and the Housekeeper call

    async def ping(self) -> bool:
        return self._ready.is_set()

    async def activate(self, activation: Activation) -> Placement | OrchestratorError:
        """Make sure that a session in progress (or about to start) is held. Single-flight per session.

        Returns where it is held and, if this call did the activation, the reply of its command.
        """
        await self._ready.wait()
        return await self._once(activation.session_id, lambda: self._activate(activation))

    async def ensure(self, session_id: str, lost: str | None = None) -> Placement | OrchestratorError:
        """Where a session in progress is held; it is taken up first if nobody holds it.

        `lost` is an actor that the caller has just seen dead, perhaps sooner than its supervisor here.
        """
        await self._ready.wait()
        await self._until_noticed(session_id, lost)
        loss = Loss(lost, wall_ms()) if lost is not None else None
        return await self._once(session_id, lambda: self._take_up(session_id, "recovered", loss))

    async def suspect(self, session_id: str, actor: str, since: int) -> bool:
        """This actor has given no sign since `since` (ms). Ping it; take its session over if it is hung.

        True: look again who holds the session.
        """
        live = self._live.get(session_id)
        if live is None or live.actor != actor:
            task = self._activating.get(session_id)
            if task is not None:
                await asyncio.shield(task)
            return True
        if await self._answers(live):
            return False
        await self._take_over(live, since)
        return True

    async def status(self) -> dict[str, Any]:
        """Live and warm actors, room for more, and the sessions held (ids only)."""
        await self._capacity.look(self._draining)
        up = len(self._live) + self._pool.ready + self._pool.starting
        return {
            "live_actors": len(self._live),
            "warm_actors": self._pool.ready,
            "starting_actors": self._pool.starting,
            "capacity": up + self._capacity.room(self._pool.starting),
            "placements": {live.actor: live.session_id for live in self._live.values()},
            "draining": {node: len(self._on(node)) for node in self._draining},
        }

    async def end(self, session_id: str) -> None:
        """End the actor of a session that was deleted or completed by somebody else."""
        live = self._live.get(session_id)
        if live is not None:
            self._lost(live, "ended")
            cluster.kill(live.handle)

    async def release(self, session_id: str, reason: str) -> OrchestratorError | None:
        """Have the holder of a session hand it over to a warm actor, which is taken first."""
        live = self._live.get(session_id)
        if live is None:
            return NotFound("No actor holds this session.", session_id=session_id)
        try:
            await self._move(live, reason)
        except OrchestratorError as error:
            return error
        return None

    async def drain(self, node: str, draining: bool) -> OrchestratorError | None:
        """Take no new interviews on a node and hand its live ones over, one by one; or take it into use again."""
        try:
            await (await self._opened()).set_draining(node, draining)
        except OrchestratorError as error:
            return error
        (self._draining.add if draining else self._draining.discard)(node)
        log.warning("node drain", extra={"node": node, "draining": draining})
        self._empty_draining_nodes()
        return None

    async def recover(self, dry_run: bool) -> dict[str, str] | OrchestratorError:
        """Take up every session in progress that nobody holds: what became of each, by its id."""
        await self._ready.wait()
        try:
            if dry_run:
                return dict.fromkeys(await self._orphans(), "held by nobody")
            return await self._recover()
        except OrchestratorError as error:
            return error

    # Activation

    async def _once(
        self, session_id: str, work: Callable[[], Coroutine[Any, Any, Placement]]
    ) -> Placement | OrchestratorError:
        """Have a session held, by one piece of work at a time; who comes second shares its result."""
        live = self._live.get(session_id)
        if live is not None:
            return Placement(live.actor, None)
        task = self._activating.get(session_id)
        if task is not None:
            result = await asyncio.shield(task)
            return result if isinstance(result, OrchestratorError) else Placement(result.actor, None)
        task = asyncio.get_running_loop().create_task(_or_error(work()))
        self._activating[session_id] = task
        task.add_done_callback(lambda _: self._activating.pop(session_id, None))
        return await asyncio.shield(task)

    async def _until_noticed(self, session_id: str, lost: str | None) -> None:
        """If this actor is dead, wait until its supervisor has seen it: a matter of milliseconds."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + NOTICE_SECONDS
        live = self._live.get(session_id)
        if live is None or live.actor != lost:
            return
        with contextlib.suppress(cluster.ActorSilent):
            try:
                await cluster.call(live.handle, "ping", timeout=PING_SECONDS)
            except cluster.ActorGone:
                while self._live.get(session_id) is live and loop.time() < give_up:
                    await asyncio.sleep(0.005)

    async def _activate(self, activation: Activation) -> Placement:
        """Try warm actors until one has taken the session; dead or silent ones are thrown away.

        An interview that takes three actors down before it can be written down that they had it is parked.
        """
        loop = asyncio.get_running_loop()
        urgent = activation.cause != "start"
        give_up = loop.time() + ACTIVATION_SECONDS
        attempts = deaths = 0
        while True:
            warm = self._replacements.pop(activation.session_id, None) or await self._take(urgent)
            give_up = max(give_up, loop.time() + ATTEMPT_SECONDS) if not attempts else give_up
            attempts += 1
            known_good = urgent or attempts > 1
            try:
                if known_good:
                    await cluster.call(warm.handle, "ping", timeout=PING_SECONDS)
            except (cluster.ActorGone, cluster.ActorSilent):
                cluster.kill(warm.handle)
                continue
            try:
                return await self._give(warm, activation)
            except (cluster.ActorGone, cluster.ActorSilent) as error:
                cluster.kill(warm.handle)
                deaths += known_good and isinstance(error, cluster.ActorGone)
                if deaths >= MAX_FRUITLESS_ACTIVATIONS:
                    await self._park(activation, f"{deaths} actors died while they took the session")
                if loop.time() >= give_up:
                    raise Unavailable("No actor could take the session in time.", retry_after=1) from error
            except OrchestratorError:
                cluster.kill(warm.handle)
                raise

    async def _take(self, urgent: bool) -> Warm:
        if not self._pool.ready:
            await self._capacity.look(self._draining)
        wait = URGENT_WAIT_SECONDS if urgent else self._settings.start_wait_seconds
        return await self._pool.take(wait, urgent=urgent)

    async def _give(self, warm: Warm, activation: Activation) -> Placement:
        """Have one actor take the session. Raises what became of it, ActorGone or ActorSilent."""
        label = f"interview {activation.session_id}: run"
        run = asyncio.ensure_future(cluster.call(warm.handle, "run", activation, label=label, timeout=None))
        try:
            reply: Reply = await cluster.call(warm.handle, "activated", timeout=ATTEMPT_SECONDS)
        except OrchestratorError:
            run.cancel()
            raise
        live = Live(activation.session_id, warm.name, warm.handle, warm.node)
        self._live[activation.session_id] = live
        self._spawn(self._supervise(live, run))
        cluster.count("interview_activations", "Interviews that an actor has taken, by cause.", cause=activation.cause)
        return Placement(warm.name, reply)

    async def _park(self, activation: Activation, reason: str) -> None:
        """Give up a session that kills whoever takes it. One that has not started stays as it is."""
        store, now = await self._opened(), wall_ms()
        session = await Session.load(store, activation.session_id)
        since = activation.silent_since if activation.silent_since is not None else now
        await session.execute(Request(Park(reason, since), SYSTEM, now), now)
        if session.state.parked is None:
            raise Unavailable("No actor could take the session; try again soon.", retry_after=5)
        await store.save_snapshot(snapshot_of(session.state))
        log.error("parked", extra={"session_id": activation.session_id, "reason": reason})
        raise NotFound("The session was parked; no actor could take it.", session_id=activation.session_id)

    # Supervision

    async def _supervise(self, live: Live, run: asyncio.Future[Any]) -> None:
        """Await the end of one run, and see to it that a session in progress is held again."""
        reason = await self._end_of(live, run)
        loss = Loss(live.actor, wall_ms())
        if self._live.get(live.session_id) is live:
            word = reason.value if reason is not None else "crash"
            self._lost(live, word)
            if reason in (None, DeactivationReason.RELEASED, DeactivationReason.FENCED):
                await self._reactivate(live.session_id, word, loss)
            cluster.kill(live.handle)
            self._pool.refill()
        unused = self._replacements.pop(live.session_id, None)
        if unused is not None:
            self._pool.add(unused)

    def _lost(self, live: Live, reason: str) -> None:
        """An actor holds its session no longer."""
        del self._live[live.session_id]
        log.info("run ended", extra={"session_id": live.session_id, "actor": live.actor, "reason": reason})
        cluster.count("interview_deactivations", "Interviews that their actor has let go, by reason.", reason=reason)

    async def _end_of(self, live: Live, run: asyncio.Future[Any]) -> DeactivationReason | None:
        """Why the run ended; None if the process is dead, or cannot be reached for some seconds."""
        while True:
            try:
                return await run
            except cluster.ActorGone:
                return None
            except OrchestratorError:
                if not await self._comes_back(live):
                    return None
                run = asyncio.ensure_future(cluster.call(live.handle, "joined", timeout=None))

    async def _comes_back(self, live: Live) -> bool:
        """Whether an actor that cannot be reached answers again soon."""
        give_up = asyncio.get_running_loop().time() + AWAY_SECONDS
        while asyncio.get_running_loop().time() < give_up:
            await asyncio.sleep(0.2)
            with contextlib.suppress(cluster.ActorSilent):
                try:
                    await cluster.call(live.handle, "ping", timeout=PING_SECONDS)
                except cluster.ActorGone:
                    return False
                return True
        return False

    async def _answers(self, live: Live) -> bool:
        """Whether an actor answers a ping. One that is dead does too: its supervisor knows."""
        try:
            await cluster.call(live.handle, "ping", timeout=PING_SECONDS)
        except cluster.ActorGone:
            return True
        except Retryable:
            return False
        return True

    async def _take_over(self, live: Live, since: int) -> None:
        """Activate a hung actor's session in another one, then end the hung one."""
        if self._live.get(live.session_id) is not live:
            return
        self._lost(live, "hung")
        result = await self.activate(Activation(live.session_id, None, "hung", silent_since=since))
        cluster.kill(live.handle)
        if isinstance(result, Retryable):
            self._spawn(self._reactivate(live.session_id, "hung", Loss(live.actor, since)))

    async def _reactivate(self, session_id: str, cause: str, lost: Loss) -> None:
        """Take a session up again after its holder was lost; keep trying while it is in progress."""
        delay = 0.1
        while isinstance(
            result := await self._once(session_id, lambda: self._take_up(session_id, cause, lost)), Retryable
        ):
            log.warning("not re-activated yet", extra={"session_id": session_id, "reason": result.code})
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)

    async def _take_up(self, session_id: str, cause: str, lost: Loss | None) -> Placement:
        """Activate a session that lost its holder, or join its owner. Raises NotFound if it needs no actor."""
        recovery = await recovery_of(await self._opened(), session_id, cause, lost)
        if recovery is None:
            raise NotFound("No actor holds this session, and it needs none.", session_id=session_id)
        if recovery.activation is None:
            assert recovery.owner is not None
            return Placement((self._live.get(session_id) or self._join(recovery.owner)).actor, None)
        placement = await self._activate(recovery.activation)
        if recovery.hung is not None:
            cluster.kill(recovery.hung)
        return placement

    # What an earlier Registry left

    async def _adopt(self) -> None:
        """Take over the actors that an earlier Registry left: join those with a session, keep the warm ones.

        One that does not answer yet is looked at again in the next round; it may be starting, or hang.
        """
        now = asyncio.get_running_loop().time()
        for found, newest in await look_at_all(self._known):
            if found.holding is None:
                if now - self._silent.setdefault(found.name, now) > GIVE_UP_SECONDS:
                    self._known.add(found.name)
                    cluster.kill(found.handle)
            elif found.holding.session_id is None:
                self._known.add(found.name)
                self._pool.add(Warm(found.name, found.handle, found.holding.node))
            elif not newest:
                cluster.kill(found.handle)
            elif found.holding.session_id not in self._live and found.holding.session_id not in self._activating:
                self._join(found)

    def _join(self, found: Found) -> Live:
        """Supervise the run of an actor that holds a session already."""
        assert found.holding is not None and found.holding.session_id is not None
        self._known.add(found.name)
        live = Live(found.holding.session_id, found.name, found.handle, found.holding.node)
        self._live[live.session_id] = live
        self._spawn(self._supervise(live, asyncio.ensure_future(cluster.call(found.handle, "joined", timeout=None))))
        return live

    async def _orphans(self) -> list[str]:
        """Sessions in progress that nobody holds, soonest deadline first."""
        store = await self._opened()
        held = self._live.keys() | self._activating.keys()
        return [session_id for session_id in await store.in_progress(10_000) if session_id not in held]

    async def _recover(self) -> dict[str, str]:
        """Take the orphans up, a few at a time. One recovery at a time; who comes second shares the result."""
        if self._recovering is None or self._recovering.done():
            self._recovering = asyncio.get_running_loop().create_task(self._recover_all())
        return await asyncio.shield(self._recovering)

    async def _recover_all(self) -> dict[str, str]:
        slots = asyncio.Semaphore(RECOVER_AT_ONCE)

        async def recover_one(session_id: str) -> tuple[str, str]:
            async with slots:
                if session_id in self._live or session_id in self._activating:
                    return session_id, "held"
                taken = await self._once(session_id, lambda: self._take_up(session_id, "recovered", None))
                return session_id, taken.code if isinstance(taken, OrchestratorError) else "held now"

        return dict(await asyncio.gather(*map(recover_one, await self._orphans())))

    # Handing over

    def _on(self, node: str) -> list[Live]:
        return [live for live in self._live.values() if live.node == node]

    def _empty_draining_nodes(self) -> None:
        for node in self._draining - self._emptying:
            if self._on(node):
                self._emptying.add(node)
                self._spawn(self._empty(node))

    async def _empty(self, node: str) -> None:
        """Hand the interviews of a node over, one by one. What fails is tried again in the next round."""
        try:
            for live in self._on(node):
                if node in self._draining and self._live.get(live.session_id) is live:
                    with contextlib.suppress(OrchestratorError):
                        await self._move(live, "drain")
        finally:
            self._emptying.discard(node)

    async def _move(self, live: Live, reason: str) -> None:
        """Hand one interview over. Raises ClusterFull, or what kept its actor from letting go."""
        warm = await self._take(urgent=True)
        if self._live.get(live.session_id) is not live or live.session_id in self._replacements:
            self._pool.add(warm)
            return
        self._replacements[live.session_id] = warm
        since = wall_ms()
        try:
            await cluster.call(live.handle, "release", reason, timeout=RELEASE_SECONDS)
        except cluster.ActorSilent:
            await self._take_over(live, since)
        except cluster.ActorGone:
            return  # its supervisor takes the replacement
        except OrchestratorError:
            unused = self._replacements.pop(live.session_id, None)
            if unused is not None:
                self._pool.add(unused)
            raise

    # The background

    async def _start_then_watch(self) -> None:
        while not self._ready.is_set():
            try:
                await self._adopt()
                log.info("registry is up", extra={"live": len(self._live), "warm": self._pool.ready})
                self._ready.set()
            except Exception as error:
                log.warning("registry start failed, trying again", extra={"reason": repr(error)})
                await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        next_recovery, drains_known = loop.time(), False
        while True:
            try:
                if loop.time() >= next_recovery:
                    next_recovery = loop.time() + RECOVER_EVERY_SECONDS
                    await self._adopt()
                    self._spawn(self._recover_quietly())
                    self._spawn(self._watchdog.look(cluster.HOUSEKEEPER, await cluster.ensure_housekeeper()))
                if not drains_known:
                    self._draining |= await (await self._opened()).draining_nodes()
                    drains_known = True
                await self._capacity.look(self._draining)
                await self._pool.check()
                self._pool.refill()
                self._empty_draining_nodes()
                if self._has_recovered:
                    await (await self._opened()).alive(cluster.REGISTRY, wall_ms())
            except OrchestratorError as error:
                log.debug("registry round failed", extra={"reason": error.code})
            except Exception:
                log.exception("registry round failed")
            await asyncio.sleep(ROUND_SECONDS)

    async def _recover_quietly(self) -> None:
        """From the first time on this Registry says that it lives, since it knows of all interviews now."""
        with contextlib.suppress(OrchestratorError):
            await self._recover()
            self._has_recovered = True

    @property
    def _actor_memory(self) -> int:
        return self._settings.actor_memory_mb * 2**20

    def _start_actor(self) -> tuple[str, Any]:
        name = f"{ACTOR_PREFIX}{secrets.token_hex(4)}"
        self._known.add(name)
        self._capacity.note_start()
        return name, cluster.start_interview_actor(
            name, self._settings.actor_cpus, self._actor_memory, frozenset(self._draining)
        )

    async def _opened(self) -> Store:
        if self._store is None:
            from actors.storage import open_store

            self._store = await open_store()
        return self._store

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _or_error(work: Coroutine[Any, Any, Placement]) -> Placement | OrchestratorError:
    """What became of an activation, as a value."""
    try:
        return await work
    except OrchestratorError as error:
        return error
    except Exception as error:
        log.exception("activation failed")
        return Unavailable(f"The activation failed: {type(error).__name__}.", retry_after=1)
