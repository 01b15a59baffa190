"""Housekeeper: everything periodic, one in the cluster, every step idempotent.

Each step has a round of its own; one that fails or takes long is tried again and never stops the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from actors import cluster, metrics
from actors.clock import wall_ms
from actors.figures import Figures
from actors.watchdog import Watchdog
from orchestrator import logs
from orchestrator.errors import NotFound, OrchestratorError
from orchestrator.interview.commands import SYSTEM, Abandon, Caller, Command, Expire
from orchestrator.interview.snapshot import Snapshot
from orchestrator.interview.state import GRACE_MS, snapshot_of
from orchestrator.session import Request, Session
from orchestrator.settings import get_settings

if TYPE_CHECKING:
    from actors.answer_keeper import AnswerKeeper
    from actors.client import InterviewClient
    from actors.evidence_keeper import EvidenceKeeper
    from actors.report_keeper import ReportKeeper
    from actors.room_keeper import RoomKeeper
    from actors.webhook_keeper import WebhookKeeper
    from orchestrator.storage.store import Store

log = logging.getLogger(__name__)

OVERDUE_MS = 1_000
"""A timer that is this late, after its deadline and the grace, did not fire."""
AT_ONCE = 16
BATCH = 200
DAY_MS = 24 * 3600 * 1000
KEY_MS = DAY_MS
RETENTION = Caller("retention", "system")
LATE_CALL_SECONDS = 10.0
LIST_SECONDS = 10.0
QUIET_SECONDS = 15.0
"""After an outage the interviews' clocks are credited first; until then nobody is called absent."""


class Housekeeper:
    """Sweeps over indexes: sessions that are overdue, expired or abandoned, deletes that were cut short, what is
    parked, LiveKit rooms, live channels of front ends that died, reports, webhooks, pictures and sessions whose time
    is over, keys and nodes that are gone; and a look at the other system actors."""

    def __init__(self, name: str) -> None:
        self._name = name
        logs.configure(lambda: {"actor": self._name})
        self._store: Store | None = None
        self._opening = asyncio.Lock()
        self._watchdog = Watchdog()
        self._trouble_at = asyncio.get_running_loop().time()
        self._storage_away_at = float("-inf")  # not as any trouble: LiveKit, say, may be away for hours
        self._client: InterviewClient | None = None
        self._keeper: RoomKeeper | None = None
        self._evidence: EvidenceKeeper | None = None
        self._answers: AnswerKeeper | None = None
        self._reports: ReportKeeper | None = None
        self._webhooks: WebhookKeeper | None = None
        self._figures: Figures | None = None
        self._fallback_at = asyncio.get_running_loop().time()
        self._others: dict[str, Any] = {}
        self._others_due = 0.0
        steps: list[tuple[Callable[[], Awaitable[None]], float]] = [
            (self._overdue, 1.0),
            (self._expire, 2.0),
            (self._abandon, 2.0),
            (self._finish_deletes, 2.0),
            (self._watch_system_actors, 1.0),
            (self._count_sessions, 10.0),
            (self._count_fallback, 1.0),
            (self._count_webhooks, 10.0),
            (self._make_rooms, 1.0),
            (self._close_rooms, 1.0),
            (self._note_rooms_away, 2.0),
            (self._compare_rooms, 5.0),
            (self._note_dead_front_ends, 2.0),
            (self._make_reports, 1.0),
            (self._send_webhooks, 0.5),
            (self._clean_webhooks, 60.0),
            (self._look_after_stills, 10.0),
            (self._erase_pictures, 10.0),
            (self._erase_answers, 60.0),
            (self._erase_sessions, 60.0),
            (self._forget, 600.0),
        ]
        loop = asyncio.get_running_loop()
        self._rounds = [loop.create_task(self._repeat(step, pause)) for step, pause in steps]
        self._rounds.append(loop.create_task(metrics.report("Housekeeper", metrics.FALLBACK)))

    def __repr__(self) -> str:
        return self._name

    async def ping(self) -> bool:
        return self._store is not None

    async def _repeat(self, step: Callable[[], Awaitable[None]], pause: float) -> None:
        while True:
            try:
                await step()
            except OrchestratorError as error:
                self._trouble_at = asyncio.get_running_loop().time()
                log.debug("sweep failed", extra={"step": step.__name__, "reason": error.code})
            except Exception:
                log.exception("sweep failed", extra={"step": step.__name__})
            await asyncio.sleep(pause)

    @property
    def _in_trouble(self) -> bool:
        """Whether something has failed a short while ago."""
        return asyncio.get_running_loop().time() - self._trouble_at < QUIET_SECONDS

    async def _overdue(self) -> None:
        """Sessions in progress whose timer should have fired: have the Registry look at who holds them.

        Not just after an outage: their owners are busy with it, and have more time left than it seems.
        """
        store, now = await self._opened(), asyncio.get_running_loop().time()
        try:
            due = await store.overdue(wall_ms() - GRACE_MS - OVERDUE_MS, BATCH)
        except OrchestratorError:
            self._storage_away_at = now
            raise
        if now - self._storage_away_at < QUIET_SECONDS:
            return
        await _each(self._look_at_overdue, due)

    async def _look_at_overdue(self, snapshot: Snapshot) -> None:
        store = await self._opened()
        state = (await Session.load(store, snapshot.session_id)).state
        due_at = state.due_at
        if due_at is None or not state.is_overdue(wall_ms() - OVERDUE_MS):
            await store.save_snapshot(snapshot_of(state))  # the one that was found is old
            return
        log.warning("overdue", extra={"session_id": state.session_id, "epoch": state.epoch})
        if state.actor is not None:
            # Its time was over by then, so that nothing of it is given back.
            await self._ask_registry("suspect", state.session_id, state.actor, due_at + 1)
        await self._ask_registry("ensure", state.session_id)

    async def _expire(self) -> None:
        """End sessions that were never started in time."""
        store = await self._opened()
        found = await store.expired(wall_ms(), BATCH)
        await _each(lambda snapshot: self._run(snapshot.session_id, Expire()), found)

    async def _abandon(self) -> None:
        """End interviews whose candidate has given no sign since the start."""
        after = get_settings().abandon_after
        if after is None or self._in_trouble:
            return
        after_ms = round(after * 1000)
        store = await self._opened()

        async def abandon(session_id: str) -> None:
            """By its owner, who knows of drafts and of time that is still to be credited."""
            placement = await self._ask_registry("ensure", session_id)
            owner = await cluster.find(placement.actor)
            if owner is not None:
                now = wall_ms()
                request, label = Request(Abandon(after_ms), SYSTEM, now), f"interview {session_id}: abandon"
                await cluster.call(owner, "execute", session_id, request, label=label, timeout=5.0)

        await _each(abandon, await store.unseen(wall_ms() - after_ms, BATCH))

    async def _run(self, session_id: str, command: Command) -> None:
        """Run a command by optimistic append on a session that needs no owner, and keep its snapshot up to date."""
        store, now = await self._opened(), wall_ms()
        session = await Session.load(store, session_id)
        await session.execute(Request(command, SYSTEM, now), now)
        await store.save_snapshot(snapshot_of(session.state))

    async def _finish_deletes(self) -> None:
        store = await self._opened()
        for session_id in await store.tombstones_unfinished(BATCH):
            await store.erase(session_id)

    async def _watch_system_actors(self) -> None:
        """The Registry is made if there is none; hung ones are started again."""
        answers = await self._watchdog.look(cluster.REGISTRY, await cluster.ensure_registry())
        metrics.gauge(metrics.REGISTRY_UP, answers)
        now = asyncio.get_running_loop().time()
        if now >= self._others_due:
            prefixes = (cluster.JOURNAL_PREFIX, cluster.FACE_PREFIX)
            names = [name for name in await cluster.names() if name.startswith(prefixes)]
            found = {name: await cluster.find(name) for name in names}
            self._others = {name: handle for name, handle in found.items() if handle is not None}
            self._others_due = now + LIST_SECONDS
        await asyncio.gather(*(self._watchdog.look(name, handle) for name, handle in self._others.items()))

    async def _count_sessions(self) -> None:
        """Counting tens of thousands takes seconds: then the figures are older."""
        if self._figures is None:
            self._figures = Figures((await self._opened()).stats)
        stored = await self._figures.get()
        statuses = dict.fromkeys(("initialized", "in_progress", "completed"), 0) | stored["by_status"]
        metrics.gauges(metrics.SESSIONS, "status", statuses)
        metrics.gauge(metrics.PARKED, stored["parked"])

    async def _count_fallback(self) -> None:
        """LiveKit is configured, and cannot be used."""
        livekit, now = (await self._clients()).livekit, asyncio.get_running_loop().time()
        if livekit.configured and livekit.away is not None:
            metrics.count(metrics.FALLBACK, now - self._fallback_at)
        self._fallback_at = now

    async def _count_webhooks(self) -> None:
        metrics.gauge(metrics.WEBHOOK_AGE, await (await self._webhook_keeper()).oldest_seconds())

    async def _make_rooms(self) -> None:
        await (await self._rooms()).make()

    async def _close_rooms(self) -> None:
        await (await self._rooms()).close()

    async def _note_rooms_away(self) -> None:
        await (await self._rooms()).fall_back()

    async def _compare_rooms(self) -> None:
        await (await self._rooms()).compare()

    async def _note_dead_front_ends(self) -> None:
        """Candidates whose front end has died have lost their connections, whether they come back or not."""
        if self._in_trouble:
            return
        from actors.channels import FRONT_END, note_dead_front_ends

        front_ends = await (await self._opened()).proofs_of_life(FRONT_END)
        await note_dead_front_ends(await self._clients(), front_ends, BATCH, _each)

    async def _rooms(self) -> RoomKeeper:
        if self._keeper is None:
            from actors.room_keeper import RoomKeeper

            self._keeper = RoomKeeper(await self._clients(), _each)
        return self._keeper

    async def _make_reports(self) -> None:
        store = await self._opened()
        if self._reports is None:
            from actors.report_keeper import ReportKeeper

            self._reports = ReportKeeper(store)
        await self._reports.make()

    async def _send_webhooks(self) -> None:
        await (await self._webhook_keeper()).run()

    async def _clean_webhooks(self) -> None:
        await (await self._webhook_keeper()).clean()

    async def _webhook_keeper(self) -> WebhookKeeper:
        store = await self._opened()
        if self._webhooks is None:
            from actors.webhook_keeper import WebhookKeeper
            from orchestrator.outbound import Caller as OutboundCaller

            private = get_settings().webhook_private_addresses
            self._webhooks = WebhookKeeper(store, OutboundCaller(private=private))
        return self._webhooks

    async def _look_after_stills(self) -> None:
        """Stills that wait need somebody who looks at them."""
        settings = get_settings()
        backlog = await (await self._opened()).count_pending()
        metrics.gauge(metrics.STILL_BACKLOG, backlog)
        if backlog:
            for number in range(settings.face_actors):
                await cluster.ensure_face_actor(number, settings.face_actors, settings.face_cpus)

    async def _erase_pictures(self) -> None:
        """Pictures are kept as long as the settings say."""
        if self._evidence is None:
            from actors.evidence_keeper import EvidenceKeeper

            self._evidence = EvidenceKeeper(await self._clients(), _each)
        await self._evidence.erase_expired(wall_ms())

    async def _erase_answers(self) -> None:
        """Answers are kept as long as the settings say."""
        days = get_settings().answer_days
        if days is None:
            return
        if self._answers is None:
            from actors.answer_keeper import AnswerKeeper

            self._answers = AnswerKeeper(await self._clients(), _each)
        await self._answers.erase(wall_ms() - round(days * DAY_MS))

    async def _erase_sessions(self) -> None:
        """Sessions are kept as long as the settings say."""
        days = get_settings().session_days
        if days is None:
            return
        client, before = await self._clients(), wall_ms() - round(days * DAY_MS)
        found = await client.store.ended_between(0, before, BATCH)
        await _each(lambda session_id: client.delete(session_id, RETENTION), [session_id for session_id, _ in found])

    async def _clients(self) -> InterviewClient:
        store = await self._opened()
        if self._client is None:
            from actors.client import InterviewClient

            self._client = InterviewClient(get_settings(), store)
            self._client.livekit.start()
        return self._client

    async def _forget(self) -> None:
        """Idempotency keys are kept for a day, and drains as long as their node is there."""
        store = await self._opened()
        await store.forget_keys(wall_ms() - KEY_MS)
        alive = {node.node_id for node in await cluster.nodes() if node.alive}
        for node in await store.draining_nodes() - alive:
            await store.set_draining(node, False)

    async def _ask_registry(self, method: str, *args: Any) -> Any:
        return await cluster.call(await cluster.ensure_registry(), method, *args, timeout=LATE_CALL_SECONDS)

    async def _opened(self) -> Store:
        if self._store is None:
            async with self._opening:
                if self._store is None:
                    from actors.storage import open_store

                    self._store = await open_store()
        return self._store


async def _each(work: Callable[[Any], Awaitable[Any]], items: Iterable[Any]) -> None:
    """Do the work for each item, some at a time; one that fails does not stop the others."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(item: Any) -> None:
        async with slots:
            try:
                await work(item)
            except NotFound:
                return
            except OrchestratorError as error:
                log.debug("one of a sweep failed", extra={"reason": error.code})
            except Exception:
                log.exception("one of a sweep failed")

    await asyncio.gather(*map(one, items))
