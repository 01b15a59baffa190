"""Supervisor: the interviews that are live, each under one await of its actor's `run`.

    run ended with ...       the session is ...
    completed, deleted       done
    parked, refused          nobody's; staff or the caller decide
    released, fenced         taken up again, unless the journal names an owner that lives
    no reason: it died       taken up again, with the time since the last proof of life credited

An actor that hangs raises nothing: somebody has to suspect it, and then it is pinged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from actors import cluster, metrics
from actors.clock import wall_ms
from actors.interview import Activation, DeactivationReason
from actors.pool import Warm, WarmPool
from actors.recovery import PING_SECONDS, Found, Loss, recovery_of
from actors.scaling import Refusals
from orchestrator.errors import ClusterFull, NotFound, OrchestratorError, OutcomeUnknown, Retryable, Unavailable
from orchestrator.interview.commands import SYSTEM, Park
from orchestrator.interview.state import MAX_FRUITLESS_ACTIVATIONS, snapshot_of
from orchestrator.interview.wire import Wire
from orchestrator.session import Reply, Request, Session

if TYPE_CHECKING:
    from orchestrator.storage.store import Store

log = logging.getLogger(__name__)

ATTEMPT_SECONDS = 5.0
"""An actor that has not taken a session after this is thrown away for another one."""
ACTIVATION_SECONDS = 8.0
URGENT_WAIT_SECONDS = 60.0
RELEASE_SECONDS = 5.0
NOTICE_SECONDS = 1.0
AWAY_SECONDS = 2.0
HUNG_AT_ONCE = 4
"""How many actors of a node are replaced at a time because they do not answer."""
PATIENT_PING_SECONDS = 3.0
"""For one that had to wait for its turn."""
RETRY_SECONDS = 0.1
"""Until a session that could not be taken up is tried again; twice as long each time."""
UNCONFIRMED_MS = 30_000
"""A start whose outcome is unknown is looked for so long."""


@dataclass(frozen=True, slots=True)
class Placement(Wire):
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


class Reactivation:
    """One that is under way: `hurry` has it try again at once, `ended` says when it is over."""

    def __init__(self) -> None:
        self.hurry, self.ended = asyncio.Event(), asyncio.Event()


class Supervisor:
    """Has sessions held: activates them in warm actors, watches the runs, and hands them over.

    `look` is called before a warm actor has to be waited for, so that the pool knows what room there is.
    """

    def __init__(
        self,
        pool: WarmPool,
        store: Callable[[], Awaitable[Store]],
        look: Callable[[], Awaitable[None]],
        start_wait_seconds: float,
    ) -> None:
        self._pool = pool
        self._opened = store
        self._look = look
        self._start_wait_seconds = start_wait_seconds
        self.live: dict[str, Live] = {}
        self.activating: dict[str, asyncio.Task[Placement | OrchestratorError]] = {}
        self.refusals = Refusals()
        self.storage_reached_at: int | None = None
        """When (ms) this Registry last did something with the storage."""
        self._replacements: dict[str, Warm] = {}
        self._losses: dict[str, Loss] = {}
        self._reactivating: dict[str, Reactivation] = {}
        self._hung_turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(HUNG_AT_ONCE))
        self._tasks: set[asyncio.Task[Any]] = set()

    # Activation

    def by_node(self) -> Counter[str]:
        """How many interviews are live on each node."""
        return Counter(live.node for live in self.live.values())

    async def once(
        self, session_id: str, work: Callable[[], Coroutine[Any, Any, Placement]]
    ) -> Placement | OrchestratorError:
        """Have a session held, by one piece of work at a time; who comes second shares its result."""
        live = self.live.get(session_id)
        if live is not None:
            return Placement(live.actor, None)
        task = self.activating.get(session_id)
        if task is not None and not task.done():
            result = await asyncio.shield(task)
            return result if isinstance(result, OrchestratorError) else Placement(result.actor, None)
        task = asyncio.get_running_loop().create_task(_or_error(work()))
        self.activating[session_id] = task
        task.add_done_callback(lambda done: self._forget(session_id, done))
        return await asyncio.shield(task)

    def _forget(self, session_id: str, task: asyncio.Task[Any]) -> None:
        if self.activating.get(session_id) is task:
            del self.activating[session_id]

    async def until_noticed(self, session_id: str, lost: str | None) -> None:
        """If this actor is dead, wait until its supervisor has seen it: a matter of milliseconds."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + NOTICE_SECONDS
        live = self.live.get(session_id)
        if live is None or live.actor != lost:
            return
        with contextlib.suppress(cluster.ActorSilent):
            try:
                await cluster.call(
                    live.handle, "ping", label=f"interview {live.session_id}: ping", timeout=PING_SECONDS
                )
            except cluster.ActorGone:
                while self.live.get(session_id) is live and loop.time() < give_up:
                    await asyncio.sleep(0.005)

    async def activate(self, activation: Activation) -> Placement:
        """Try warm actors until one has taken the session; dead or silent ones are thrown away.

        One that was lost may have taken it. So if none has in the end, it is not left at that: its clock would run.
        """
        try:
            return await self._activate(activation)
        except Retryable:
            if activation.session_id in self._losses:
                cause = "crash" if activation.cause in ("start", "retry") else activation.cause
                self.spawn(self._reactivate(activation.session_id, cause))
            raise
        except OrchestratorError:
            self._losses.pop(activation.session_id, None)
            raise

    async def _activate(self, activation: Activation) -> Placement:
        """An interview that takes three actors down before it can be written down that they had it is parked."""
        loop = asyncio.get_running_loop()
        self.refusals.settle(activation.session_id)
        began = loop.time()
        urgent = activation.cause != "start"
        give_up = began + ACTIVATION_SECONDS
        attempts = deaths = 0
        while True:
            try:
                warm = self._replacements.pop(activation.session_id, None) or await self._take(urgent)
            except ClusterFull:
                self.refusals.note(activation.session_id, loop.time())
                raise
            give_up = max(give_up, loop.time() + ATTEMPT_SECONDS) if not attempts else give_up
            attempts += 1
            known_good = urgent or attempts > 1
            try:
                if known_good:
                    await cluster.call(warm.handle, "ping", timeout=PING_SECONDS)
            except (cluster.ActorGone, cluster.ActorSilent):
                cluster.kill(warm.handle)
                continue
            given_at = wall_ms()
            try:
                placement = await self._give(warm, activation)
                metrics.observe(metrics.ACTIVATION, loop.time() - began, source=activation.cause)
                return placement
            except (cluster.ActorGone, cluster.ActorSilent) as error:
                cluster.kill(warm.handle)
                loss = self._note_loss(activation.session_id, warm.name, given_at)
                since = loss.since if activation.silent_since is None else activation.silent_since
                activation = replace(activation, state=None, draft=None, silent_since=since)
                deaths += known_good and isinstance(error, cluster.ActorGone)
                if deaths >= MAX_FRUITLESS_ACTIVATIONS:
                    await self._park(activation, f"{deaths} actors died while they took the session")
                if loop.time() >= give_up:
                    raise Unavailable("No actor could take the session in time.", retry_after=1) from error
            except OrchestratorError as error:
                cluster.kill(warm.handle)
                if isinstance(error, OutcomeUnknown):
                    self._note_loss(activation.session_id, warm.name, given_at)
                raise

    async def _take(self, urgent: bool) -> Warm:
        if not self._pool.has_one(urgent=urgent):
            await self._look()
        wait = URGENT_WAIT_SECONDS if urgent else self._start_wait_seconds
        return await self._pool.take(wait, urgent=urgent)

    async def _give(self, warm: Warm, activation: Activation) -> Placement:
        """Have one actor take the session. Raises what became of it, ActorGone or ActorSilent."""
        label = f"interview {activation.session_id}: run"
        run = asyncio.ensure_future(cluster.call(warm.handle, "run", activation, label=label, timeout=None))
        try:
            label = f"interview {activation.session_id}: activated"
            reply: Reply = await cluster.call(
                warm.handle, "activated", activation.session_id, label=label, timeout=ATTEMPT_SECONDS
            )
        except OrchestratorError:
            run.cancel()
            raise
        live = Live(activation.session_id, warm.name, warm.handle, warm.node)
        self.live[activation.session_id] = live
        self._losses.pop(activation.session_id, None)
        self.spawn(self._supervise(live, run))
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
        reason, sure = await self._end_of(live, run)
        ended_at = wall_ms()
        if self.live.get(live.session_id) is live:
            word = reason.value if reason is not None else "crash"
            self.lost(live, word)
            if reason in (None, DeactivationReason.RELEASED, DeactivationReason.FENCED):
                self._note_loss(live.session_id, live.actor, ended_at, sure=sure)
                await self._reactivate(live.session_id, word)
            holder = self.live.get(live.session_id)
            if holder is None or holder.actor != live.actor:  # it could be reached again, and was joined
                cluster.kill(live.handle)
            self._pool.refill()
        unused = self._replacements.pop(live.session_id, None)
        if unused is not None:
            self._pool.add(unused)

    def _note_loss(self, session_id: str, actor: str, since: int, *, sure: bool = True) -> Loss:
        """Keep in mind, until somebody holds the session, that this actor does not, and since when (ms)."""
        since, actors = min(since, self.storage_reached_at or since), frozenset({actor})
        loss = Loss(actors, since, frozenset() if sure else actors).and_before(self._losses.get(session_id))
        self._losses[session_id] = loss
        return loss

    def lost(self, live: Live, reason: str) -> None:
        """An actor holds its session no longer."""
        del self.live[live.session_id]
        log.info("run ended", extra={"session_id": live.session_id, "actor": live.actor, "reason": reason})
        metrics.count(metrics.DEACTIVATIONS, reason=reason)

    async def _end_of(self, live: Live, run: asyncio.Future[Any]) -> tuple[DeactivationReason | None, bool]:
        """Why the run ended, and if it has for sure. No reason: the process is dead or cannot be reached."""
        while True:
            try:
                return await run, True
            except cluster.ActorGone:
                return None, True
            except OrchestratorError:
                if not await self._comes_back(live):
                    return None, False
                run = self._joined(live)

    async def _comes_back(self, live: Live) -> bool:
        """Whether an actor that cannot be reached answers again soon."""
        give_up = asyncio.get_running_loop().time() + AWAY_SECONDS
        while asyncio.get_running_loop().time() < give_up:
            await asyncio.sleep(0.2)
            with contextlib.suppress(cluster.ActorSilent):
                try:
                    await cluster.call(
                        live.handle, "ping", label=f"interview {live.session_id}: ping", timeout=PING_SECONDS
                    )
                except cluster.ActorGone:
                    return False
                return True
        return False

    async def replace_if_hung(self, live: Live, since: int) -> bool:
        """Ping an actor that gave no sign since `since` (ms), and take its session over if it does not answer.

        Many that do not answer on one node are slow rather than hung: the node has too much to do, and each activation
        in the stead of one gives it more. So only so many of a node are replaced at a time, and the others are asked
        again, more patiently, when it is their turn. If the node itself hangs, Ray takes it for dead.
        """
        if await self._answers(live, PING_SECONDS):
            return False
        turns = self._hung_turns[live.node]
        many = turns.locked()
        async with turns:
            is_held = self.live.get(live.session_id) is live
            if many and is_held and await self._answers(live, PATIENT_PING_SECONDS):
                log.warning("slow, not hung", extra={"session_id": live.session_id})
                return False
            await self.take_over(live, since)
            return True

    @staticmethod
    async def _answers(live: Live, seconds: float) -> bool:
        """Whether an actor answers a ping. One that is dead does too: its supervisor knows."""
        try:
            await cluster.call(live.handle, "ping", label=f"interview {live.session_id}: ping", timeout=seconds)
        except cluster.ActorGone:
            return True
        except Retryable:
            return False
        return True

    async def take_over(self, live: Live, since: int) -> None:
        """Activate a hung actor's session in another one, then end the hung one."""
        if self.live.get(live.session_id) is not live:
            return
        self.lost(live, "hung")
        loss = self._note_loss(live.session_id, live.actor, since)
        activation = Activation(live.session_id, None, "hung", silent_since=loss.since)
        result = await self.once(live.session_id, lambda: self.activate(activation))
        cluster.kill(live.handle)
        if isinstance(result, Retryable):
            self.spawn(self._reactivate(live.session_id, "hung"))

    async def _reactivate(self, session_id: str, cause: str) -> None:
        """Take a session up again after its holder was lost; keep trying while it is in progress.

        Once at a time for a session: who comes second, with another loss, hurries the first and waits for it.
        """
        running = self._reactivating.get(session_id)
        if running is not None:
            running.hurry.set()
            await running.ended.wait()
            return
        running = self._reactivating[session_id] = Reactivation()
        try:
            await self._keep_trying(session_id, cause, running.hurry)
        finally:
            del self._reactivating[session_id]
            running.ended.set()

    async def _keep_trying(self, session_id: str, cause: str, hurry: asyncio.Event) -> None:
        delay = RETRY_SECONDS
        while True:
            hurry.clear()
            result = await self.once(session_id, lambda: self.take_up(session_id, cause))
            if isinstance(result, Retryable):
                log.warning("not re-activated yet", extra={"session_id": session_id, "reason": result.code})
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(hurry.wait(), delay)
                delay = RETRY_SECONDS if hurry.is_set() else min(delay * 2, 5.0)
            elif not hurry.is_set():
                if isinstance(result, OrchestratorError):  # nobody has to hold it
                    self._losses.pop(session_id, None)
                return

    async def take_up(self, session_id: str, cause: str, gone: str | None = None) -> Placement:
        """Activate a session that lost its holder, or join its owner. Raises NotFound if it needs no actor.

        `gone`: an actor that somebody has seen dead.
        """
        recovery = await recovery_of(await self._opened(), session_id, cause, self._losses.get(session_id), gone)
        if recovery is None and await self._may_have_started(session_id):
            raise Unavailable("It is not known yet whether the interview has started.", retry_after=1)
        if recovery is None:
            raise NotFound("No actor holds this session, and it needs none.", session_id=session_id)
        if recovery.activation is None:
            assert recovery.owner is not None
            return Placement((self.live.get(session_id) or self.join(recovery.owner)).actor, None)
        placement = await self.activate(recovery.activation)
        if recovery.hung is not None:
            cluster.kill(recovery.hung)
        return placement

    async def _may_have_started(self, session_id: str) -> bool:
        """Whether a start was lost a short while ago: a majority may confirm it yet."""
        loss = self._losses.get(session_id)
        if loss is None or wall_ms() - loss.since > UNCONFIRMED_MS:
            return False
        return (await Session.load(await self._opened(), session_id)).state.status == "initialized"

    def join(self, found: Found) -> Live:
        """Supervise the run of an actor that holds a session already."""
        assert found.holding is not None and found.holding.session_id is not None
        live = Live(found.holding.session_id, found.name, found.handle, found.holding.node)
        self.live[live.session_id] = live
        self._losses.pop(live.session_id, None)
        self.spawn(self._supervise(live, self._joined(live)))
        return live

    @staticmethod
    def _joined(live: Live) -> asyncio.Future[Any]:
        """The end of a run that is under way."""
        label = f"interview {live.session_id}: joined"
        return asyncio.ensure_future(cluster.call(live.handle, "joined", label=label, timeout=None))

    # Handing over

    async def move(self, live: Live, reason: str) -> None:
        """Hand one interview over. Raises ClusterFull, or what kept its actor from letting go."""
        warm = await self._take(urgent=True)
        if self.live.get(live.session_id) is not live or live.session_id in self._replacements:
            self._pool.add(warm)
            return
        self._replacements[live.session_id] = warm
        since = wall_ms()
        try:
            label = f"interview {live.session_id}: release"
            await cluster.call(live.handle, "release", reason, label=label, timeout=RELEASE_SECONDS)
        except cluster.ActorSilent:
            await self.take_over(live, since)
        except cluster.ActorGone:
            return  # its supervisor takes the replacement
        except OrchestratorError:
            unused = self._replacements.pop(live.session_id, None)
            if unused is not None:
                self._pool.add(unused)
            raise

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something beside; an error in it is logged by asyncio."""
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
