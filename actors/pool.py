"""WarmPool: actors started ahead, so that an interview starts in milliseconds. Knows nothing of Ray calls
beyond `cluster.call`; each actor is taken once.

Interviews that lost their actor are urgent: they are served before starts, and a few ready actors are kept in
reserve for them. No more actors are started than there is room for, so that nobody waits for a place that
does not exist.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from actors import cluster, metrics
from orchestrator.errors import ClusterFull, Retryable

log = logging.getLogger(__name__)

START_SECONDS = 30.0
REFILL_AFTER_SECONDS = 0.3
"""Starting a process takes a core for a while; the interview that was just given an actor goes first."""
SURPLUS_AFTER_SECONDS = 10.0
"""Actors that are too many for so long are ended, one a check."""
PING_SECONDS = 2.0
PINGS_A_CHECK = 50
"""With more ready actors than that, a check pings some of them; one that is dead when it is taken is passed over."""
STUCK_SECONDS = 5.0
"""An actor that has been starting for longer has found no place; nobody is made to wait for it."""


class Warm(NamedTuple):
    """An actor that is up and holds nothing."""

    name: str
    handle: Any
    node: str


Waiters = deque[asyncio.Future[Warm]]


class WarmPool:
    """Keeps `wanted` actors ready, and starts more while somebody waits, as many at a time as `at_once` says.

    `ahead` are wanted on top, for starts that are known to come. `reserve` are for the urgent; `room` says how many
    more could be started, given how many are starting; `usable` whether actors on a node may be used.
    """

    def __init__(
        self,
        start: Callable[[], tuple[str, Any]],
        wanted: int,
        at_once: Callable[[], int],
        *,
        reserve: int = 0,
        room: Callable[[int], int] = lambda starting: 1_000_000,
        usable: Callable[[str], bool] = lambda node: True,
    ) -> None:
        self._start = start
        self._wanted = wanted
        self._surplus_since: float | None = None
        self.ahead = 0
        self._at_once = at_once
        self._reserve = reserve
        self._room = room
        self._usable = usable
        self._ready: deque[Warm] = deque()
        self._to_check: list[Warm] = []
        self._doubted: set[str] = set()
        self._urgent: Waiters = deque()
        self._waiting: Waiters = deque()
        self._starting: dict[asyncio.Task[None], float] = {}

    @property
    def ready(self) -> int:
        return len(self._ready)

    @property
    def starting(self) -> int:
        return len(self._starting)

    def has_one(self, *, urgent: bool) -> bool:
        """Whether an actor is ready for somebody."""
        return len(self._ready) > (0 if urgent else self._reserve)

    @property
    def wanted(self) -> int:
        """Actors that should be ready, or are waited for."""
        return self._wanted + self.ahead + self.waiting

    @property
    def missing(self) -> int:
        """Actors that are wanted and not ready."""
        return self.wanted - len(self._ready)

    def by_node(self) -> Counter[str]:
        """The ready actors of each node."""
        return Counter(warm.node for warm in self._ready)

    @property
    def waiting(self) -> int:
        """Those who wait for an actor now."""
        return _active(self._urgent) + _active(self._waiting)

    def add(self, warm: Warm) -> None:
        """Give an actor that is up to whoever waits longest, the urgent first, or keep it."""
        self._ready.append(warm)
        self._serve()

    async def take(self, wait_seconds: float, *, urgent: bool = False) -> Warm:
        """One warm actor, used from now on. Raises ClusterFull: at once if there is no room, else after the wait."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Warm] = loop.create_future()
        (self._urgent if urgent else self._waiting).append(waiter)
        self._serve()
        if waiter.done():
            loop.call_later(REFILL_AFTER_SECONDS, self.refill)
            return waiter.result()
        self.refill()
        if not urgent and self._is_full():
            waiter.cancel()
            metrics.count(metrics.REFUSED_STARTS)
            raise ClusterFull("Every place for a live interview is taken; try again soon.", retry_after=5)
        try:
            await asyncio.wait({waiter}, timeout=wait_seconds)  # wait_for may lose an actor that comes as it ends
        except asyncio.CancelledError:
            if not waiter.cancel():
                self.add(waiter.result())
            raise
        if waiter.cancel():
            metrics.count(metrics.REFUSED_STARTS)
            raise ClusterFull("No actor was free in time; try again soon.", retry_after=2)
        return waiter.result()

    def refill(self) -> None:
        """Start what is missing: as many at a time as may be while somebody waits or will soon, else one by one."""
        to_start = self.missing - len(self._starting)
        at_once = self._at_once() if self.wanted > self._wanted else 1
        for _ in range(min(to_start, at_once - len(self._starting), self._room(len(self._starting)))):
            task = asyncio.get_running_loop().create_task(self._start_one())
            self._starting[task] = asyncio.get_running_loop().time()
            task.add_done_callback(self._started)

    async def check(self) -> None:
        """Ping the ready actors; throw away those that are dead, silent or not to be used any more, and slowly those
        that are too many."""
        self._serve()
        self._end_surplus()
        ready = {warm.name for warm in self._ready}
        turn = [warm for warm in self._to_check if warm.name in ready] or list(self._ready)
        if self._doubted:  # what was wrong with one actor may be wrong with its node
            near = [warm for warm in self._ready if warm.node in self._doubted]
            turn = near + [warm for warm in turn if warm.node not in self._doubted]
            self._doubted = set()
        self._to_check = turn[PINGS_A_CHECK:]
        await asyncio.gather(*map(self._check_one, turn[:PINGS_A_CHECK]))

    def _is_full(self) -> bool:
        """Whether those who wait are more than the actors that are up, starting, or could be started."""
        stuck_before = asyncio.get_running_loop().time() - STUCK_SECONDS
        starting = sum(at > stuck_before for at in self._starting.values())
        to_come = len(self._ready) + starting + self._room(len(self._starting)) - self._reserve
        return self.waiting > to_come

    def _serve(self) -> None:
        for warm in [warm for warm in self._ready if not self._usable(warm.node)]:
            self._throw_away(warm)
        for waiters, kept in ((self._urgent, 0), (self._waiting, self._reserve)):
            while waiters and len(self._ready) > kept:
                waiter = waiters.popleft()
                if not waiter.done():
                    waiter.set_result(self._ready.popleft())

    def _end_surplus(self) -> None:
        now = asyncio.get_running_loop().time()
        if len(self._ready) <= self.wanted:
            self._surplus_since = None
        elif self._surplus_since is None or now - self._surplus_since < SURPLUS_AFTER_SECONDS:
            self._surplus_since = now if self._surplus_since is None else self._surplus_since
        else:
            self._throw_away(self._ready[-1])

    async def _check_one(self, warm: Warm) -> None:
        try:
            holding = await cluster.call(warm.handle, "ping", timeout=PING_SECONDS)
        except Retryable as error:
            log.warning("a warm actor is thrown away", extra={"actor": warm.name, "reason": error.code})
            self._throw_away(warm)
            self._doubted.add(warm.node)
            return
        if holding.session_id is not None and warm in self._ready:
            self._ready.remove(warm)  # an earlier Registry has given it a session; it is found as that one's owner

    def _throw_away(self, warm: Warm) -> None:
        if warm in self._ready:
            self._ready.remove(warm)
            cluster.kill(warm.handle)

    async def _start_one(self) -> None:
        name, handle = self._start()
        try:
            holding = await cluster.call(handle, "ping", timeout=START_SECONDS)
        except Exception as error:
            log.warning("a warm actor did not come up", extra={"actor": name, "reason": repr(error)})
            cluster.kill(handle)
            await asyncio.sleep(1)
            return
        self.add(Warm(name, handle, holding.node))

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            log.warning("a warm actor could not be started", extra={"reason": repr(task.exception())})
            return
        self.refill()


def _active(waiters: Waiters) -> int:
    return sum(not waiter.done() for waiter in waiters)
