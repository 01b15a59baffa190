"""WebhookKeeper: the Housekeeper's part for webhooks. What the journal's marks say is made into messages, and sent.

    step          does
    note          entries that are marked become messages, each is put into the queue of its endpoint once it is first
                  of its lane, and the mark goes
    send          what is due, some of each endpoint at a time
    clean         what was tried for three days is given up, what was over for a week is forgotten

Each can be repeated. A message that was sent, and whose end could not be stored, is sent again under the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from actors import metrics
from actors.clock import wall_ms
from orchestrator import __version__
from orchestrator.errors import NotFound, OrchestratorError
from orchestrator.outbound import Answered, Refused
from orchestrator.storage.store import Store
from orchestrator.webhooks import (
    FIRST_PAUSE_MS,
    LONGEST_PAUSE_MS,
    LONGEST_PROBE_MS,
    Attempt,
    Endpoint,
    Message,
    headers_of,
    messages_of,
    pause_ms,
)

log = logging.getLogger(__name__)

BATCH = 200
CLEANED = 20_000
"""Messages that are given up or forgotten in one round, at most."""
AT_ONCE = 8
"""Messages that one endpoint gets at a time."""
DOWN_AFTER = 5
"""Failures in a row after which an endpoint gets one message at a time."""
WAIT_SECONDS = 0.5
STORE_PAUSES = (0.1, 0.5, 2.0)
HEADERS = {"content-type": "application/json", "user-agent": f"parallel-interview/{__version__}"}
SHOWN = 200
BUSY = frozenset({429, 502, 503, 504})
"""Answers that ask for less."""


class Posts(Protocol):
    """The part of outbound.Caller that is needed here."""

    async def post(self, url: str, body: str, headers: dict[str, str]) -> Answered: ...


@dataclass
class Health:
    """How an endpoint has done lately. Lost with the process, and learned again. Times in ms."""

    failures: int = 0
    not_before: int = 0
    asked_until: int = 0
    """The receiver asked to be left alone until then."""
    under_way: int = 0
    url: str = ""

    @property
    def down(self) -> bool:
        return self.failures >= DOWN_AFTER

    def room(self, now: int) -> int:
        """How many more messages it may get now."""
        if now < max(self.not_before, self.asked_until):
            return 0
        return max(0, (1 if self.down else AT_ONCE) - self.under_way)


class WebhookKeeper:
    """Steps for the Housekeeper to repeat. `clock` gives the time in ms."""

    def __init__(self, store: Store, posts: Posts, clock: Callable[[], int] = wall_ms) -> None:
        self._store = store
        self._posts = posts
        self._clock = clock
        self._health: dict[str, Health] = {}
        self._busy: set[str] = set()
        """Lanes of which a message is under way."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._more = asyncio.Event()

    async def run(self) -> None:
        """Note and send, until nothing is under way any more."""
        while True:
            more = False
            try:
                more = await self.note()
            except OrchestratorError as error:
                log.debug("the journal's marks were not noted", extra={"reason": error.code})
            await self.send()
            if self._tasks:
                await self._wait(WAIT_SECONDS)
            elif not more:
                return

    async def note(self) -> bool:
        """Make messages of marked entries. True: there may be more of them."""
        entries = await self._store.marked_entries(BATCH)
        if not entries:
            return False
        now, endpoints = self._clock(), await self._store.endpoints()
        messages = [message for entry in entries for message in messages_of(entry, endpoints, now)]
        await self._store.add_messages(messages)
        await self._store.queue_heads((message.lane for message in messages), now)
        await self._store.unmark(entries)
        return len(entries) == BATCH

    async def send(self) -> None:
        """Begin to send what is due."""
        now = self._clock()
        endpoints = [endpoint for endpoint in await self._store.endpoints() if endpoint.enabled]
        for endpoint in endpoints:
            health = self._health_of(endpoint)
            room = health.room(now)
            if not room:
                continue
            for message in await self._store.queued(endpoint.id, 0, now, room + len(self._busy)):
                if room and message.lane not in self._busy:
                    room -= 1
                    self._begin(endpoint, health, message)
        metrics.gauge(metrics.WEBHOOKS_UNDER_WAY, len(self._tasks))

    async def _wait(self, seconds: float) -> None:
        """Until something was sent, so that what comes after it need not wait; or the time is over."""
        self._more.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._more.wait()

    async def oldest_seconds(self) -> float:
        """How long the oldest message has waited, of those that are due first; and how long a receiver has taken
        nothing, if that is longer."""
        now, since = self._clock(), []
        for endpoint in [endpoint for endpoint in await self._store.endpoints() if endpoint.enabled]:
            due = await self._store.queued(endpoint.id, 0, now + LONGEST_PAUSE_MS, BATCH)
            since += [message.since for message in due]
            if due and endpoint.failing_since is not None:
                since.append(endpoint.failing_since)
        return max(0, now - min(since, default=now)) / 1000

    async def clean(self) -> None:
        """Give up, and forget, what is too old."""
        now = self._clock()
        for _ in range(CLEANED // BATCH):
            expired = await self._store.expired_messages(now, BATCH)
            for message in expired:
                if message.is_open and message.lane not in self._busy:
                    await self._ended(message, message.ended("failed", now))
            await self._store.forget_messages(message.id for message in expired if not message.is_open)
            if len(expired) < BATCH:
                return

    def _health_of(self, endpoint: Endpoint) -> Health:
        """What is known of it, unless its address is another one now."""
        health = self._health.setdefault(endpoint.id, Health(url=endpoint.url))
        if health.url != endpoint.url:
            health.failures, health.not_before, health.asked_until, health.url = 0, 0, 0, endpoint.url
        return health

    def _begin(self, endpoint: Endpoint, health: Health, message: Message) -> None:
        self._busy.add(message.lane)
        health.under_way += 1
        task = asyncio.create_task(self._deliver(endpoint, health, message))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(done, health, message))

    def _done(self, task: asyncio.Task[None], health: Health, message: Message) -> None:
        self._tasks.discard(task)
        self._busy.discard(message.lane)
        health.under_way -= 1
        self._more.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            health.not_before = max(health.not_before, self._clock() + FIRST_PAUSE_MS)
            log.warning("a webhook message was not dealt with", extra={"id": message.id, "reason": repr(error)[:SHOWN]})

    async def _deliver(self, endpoint: Endpoint, health: Health, message: Message) -> None:
        first = await self._store.head(message.lane)
        if first is not None and first.seq < message.seq:  # what was cut short has left two in the queue
            await self._store.change_message(message, message.due(None))
        if first is None or first != message:  # it was sent, or changed, since the queue was read
            return
        attempt, retry_after = await self._attempt(endpoint, message)
        now = self._clock()
        metrics.count(metrics.WEBHOOK_ATTEMPTS, outcome=_outcome(attempt))
        if attempt.gone:
            await self._disable(endpoint.id)
        pause = 0 if attempt.gone else max(pause_ms(message.tries + 1), retry_after)
        await self._until_stored(message, message.tried(attempt, pause))
        if attempt.succeeded:
            await self._is_well(endpoint, health, now)
        else:
            await self._is_ill(endpoint, health, now, retry_after)

    async def _attempt(self, endpoint: Endpoint, message: Message) -> tuple[Attempt, int]:
        """One try, and how long the receiver asks to be left alone (ms)."""
        began, loop = self._clock(), asyncio.get_running_loop()
        start = loop.time()
        status, problem, text, retry_after = None, None, "", 0
        try:
            headers = {**HEADERS, **headers_of(endpoint, message, began)}
            answered = await self._posts.post(endpoint.url, message.body, headers)
        except Refused as error:
            problem = str(error)
        except TimeoutError:
            problem = "no answer in time"
        except Exception as error:  # whatever it is, it is tried again later, and no sooner
            problem = f"{type(error).__name__}: {error}"
        else:
            status, text = answered.status, answered.text
            if status in BUSY and answered.retry_after is not None:
                retry_after = min(LONGEST_PAUSE_MS, round(answered.retry_after * 1000))
            if 300 <= status < 400:
                problem = "a redirect, which is not followed"
        took = round((loop.time() - start) * 1000)
        return Attempt(began, status, problem[:SHOWN] if problem else None, took, text[:SHOWN]), retry_after

    async def _until_stored(self, before: Message, after: Message) -> None:
        """A message that was sent is not sent again because the database does not answer."""
        for pause in itertools.chain(STORE_PAUSES, itertools.repeat(STORE_PAUSES[-1])):
            try:
                return await self._ended(before, after)
            except OrchestratorError as error:
                log.debug("what became of a webhook message is not stored yet", extra={"reason": error.code})
            await asyncio.sleep(pause)

    async def _ended(self, before: Message, after: Message) -> None:
        """Store what became of a message. The next of its lane is queued first, so that none is forgotten."""
        if not after.is_open:
            following = await self._store.head(before.lane, before.seq)
            if following is not None and following.due_at is None:
                await self._store.change_message(following, following.due(self._clock()))
        await self._store.change_message(before, after)

    async def _is_well(self, endpoint: Endpoint, health: Health, now: int) -> None:
        """It takes messages. If it took none for a while, what waits is due now."""
        was_down = health.down or endpoint.failing_since is not None
        health.failures, health.not_before = 0, 0
        if was_down:
            await self._store.wake(endpoint.id, now)
            await self._change(endpoint.id, Endpoint.working)

    async def _is_ill(self, endpoint: Endpoint, health: Health, now: int, retry_after: int) -> None:
        health.failures += 1
        pause = pause_ms(health.failures - DOWN_AFTER + 1, LONGEST_PROBE_MS) if health.down else 0
        health.not_before = now + pause
        health.asked_until = max(health.asked_until, now + retry_after)
        if health.failures == DOWN_AFTER:
            log.warning("a webhook takes no messages", extra={"webhook": endpoint.id})
            await self._change(endpoint.id, lambda one: one.failing(now))

    async def _disable(self, endpoint_id: str) -> None:
        because = "The receiver has answered 410: it wants no more messages."
        log.warning("a webhook was disabled", extra={"webhook": endpoint_id, "reason": because})
        await self._change(endpoint_id, lambda one: one.disabled(because))

    async def _change(self, endpoint_id: str, change: Callable[[Endpoint], Endpoint]) -> None:
        try:
            await self._store.change_endpoint(endpoint_id, change)
        except NotFound:
            return
        except OrchestratorError as error:
            log.debug("a webhook was not changed", extra={"webhook": endpoint_id, "reason": error.code})


def _outcome(attempt: Attempt) -> str:
    return "delivered" if attempt.succeeded else "refused" if attempt.status is not None else "failed"
