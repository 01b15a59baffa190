"""Webhooks on every MongoDB-wire server there is, with a real receiver and a clock that is told what time it is."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import Any, Self

import pytest

from actors.webhook_keeper import WebhookKeeper
from orchestrator.errors import NotFound, OutcomeUnknown
from orchestrator.interview.commands import Answer, Create, Delete, End, Question, Start
from orchestrator.interview.decide import created
from orchestrator.interview.entry import Entry, new_entry
from orchestrator.interview.fold import fold
from orchestrator.interview.outbox import with_notices
from orchestrator.interview.state import snapshot_of
from orchestrator.journal import Appended
from orchestrator.outbound import Caller
from orchestrator.session import Request, Session
from orchestrator.storage.store import Store
from orchestrator.webhooks import GIVE_UP_MS, KEEP_MS, Endpoint, Message, new_secret
from tests.receiver import Receiver, receiving
from tests.unit.world import STAFF

pytestmark = pytest.mark.services

MINUTE = 60_000


class World:
    """A store, a receiver, and a keeper whose clock is told what time it is."""

    def __init__(self, store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("actors.cluster.record", lambda *_: None)
        monkeypatch.setattr("orchestrator.storage.webhooks.KNOWN_SECONDS", 0.0)
        self.store = store
        self.receiver = receiver
        self.now = round(time.time() * 1000)
        monkeypatch.setattr("standardwebhooks.webhooks.datetime", self._datetime())
        self.posts = Caller(private=True)
        self.keeper = WebhookKeeper(store, self.posts, lambda: self.now)
        self._numbers = itertools.count(1)

    def _datetime(self) -> type[datetime]:
        """What the receiver's library takes the time from, to see that messages are not old."""
        world = self

        class Virtual(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Self:
                return cls.fromtimestamp(world.now / 1000, tz)

        return Virtual

    async def endpoint(self, **changes: Any) -> Endpoint:
        endpoint = Endpoint(f"wh_{next(self._numbers)}", self.receiver.url, new_secret(), self.now)
        endpoint = replace(endpoint, **changes)
        self.receiver.secrets.append(endpoint.secret)
        await self.store.add_endpoint(endpoint)
        return endpoint

    async def create(self, session_id: str, questions: int = 2) -> None:
        command = Create("Ada", "ada@example.com", tuple(Question(f"q{n}") for n in range(questions)))
        entry = with_notices(new_entry(session_id, 1, 0, self.now, created(command)), None, None)
        entry = replace(entry, mac=self.store.mac(entry, ""))
        assert isinstance(await self.store.create(entry, snapshot_of(fold(None, entry))), Appended)

    async def do(self, session_id: str, *commands: Any) -> None:
        session = await Session.load(self.store, session_id)
        for command in commands:
            await session.execute(Request(command, STAFF, self.now), self.now)
        await self.store.save_snapshot(snapshot_of(session.state))

    async def interview(self, session_id: str) -> None:
        """Ten of its events are told."""
        await self.create(session_id, 8)
        await self.do(session_id, Start())
        await self.do(session_id, *(Answer(n, f"answer {n}") for n in range(7)), End())

    async def pass_time(self, ms: int, step: int = 5_000, until: Callable[[], bool] = lambda: False) -> None:
        """Let the keeper work at short intervals."""
        end = self.now + ms
        while self.now < end and not until():
            await self.keeper.run()
            self.now += step

    async def message(self, endpoint: Endpoint) -> Message:
        [message] = await self.store.messages(endpoint.id, 10)
        return message


@pytest.fixture
async def world(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with receiving() as receiver:
        world = World(store, receiver, monkeypatch)
        yield world
        await world.posts.close()


def seqs(taken: list[dict[str, Any]]) -> list[int]:
    return [one["data"]["seq"] for one in taken]


async def test_what_happens_is_told_in_order_and_signed(world: World) -> None:
    await world.endpoint()
    await world.interview("s1")
    await world.keeper.run()
    told = world.receiver.of("s1")
    assert [one["type"].split(".")[1] for one in told] == [
        "created",
        "started",
        *["question_closed"] * 7,
        "completed",
    ]
    assert seqs(told) == sorted(seqs(told)) and world.receiver.forged == 0
    assert len({one["id"] for one in told}) == len(told)
    assert world.receiver.headers["content-type"] == "application/json"
    assert await world.store.marked_entries(10) == []
    assert (await world.store.verify("s1"))["ok"], "the marks are no part of what is sealed"
    await world.keeper.run()
    assert len(world.receiver.taken) == len(told)


async def test_a_receiver_that_is_down_for_an_hour_gets_every_event_once_it_is_back(world: World) -> None:
    endpoint = await world.endpoint()
    world.receiver.mood = "503 Service Unavailable"
    for number in range(6):
        await world.interview(f"s{number}")
        await world.pass_time(10 * MINUTE)
    assert world.receiver.taken == [] and world.receiver.seen < 200, "it is not stormed while it is down"
    assert (await world.store.endpoint(endpoint.id)).failing_since is not None
    await world.interview("s6")
    world.receiver.mood = "takes"
    await world.pass_time(10 * MINUTE, until=lambda: len(world.receiver.taken) == 70)
    assert len(world.receiver.taken) == 70
    assert len({one["id"] for one in world.receiver.taken}) == 70, "none twice"
    for number in range(7):
        told = seqs(world.receiver.of(f"s{number}"))
        assert told == sorted(told) and len(told) == 10
    assert (await world.store.endpoint(endpoint.id)).failing_since is None


@pytest.mark.parametrize(
    ("mood", "status", "problem"),
    [
        ("500 Internal Server Error", 500, None),
        ("404 Not Found", 404, None),
        ("redirects", 302, "redirect"),
        ("hangs", None, "no answer in time"),
        ("drops", None, ""),
    ],
)
async def test_what_is_not_taken_comes_again(
    world: World, monkeypatch: pytest.MonkeyPatch, mood: str, status: int | None, problem: str | None
) -> None:
    monkeypatch.setattr(Caller.post, "__defaults__", (1.0,))
    endpoint = await world.endpoint()
    world.receiver.mood = mood
    await world.create("s1")
    await world.keeper.run()
    message = await world.message(endpoint)
    [attempt] = message.attempts
    assert attempt.status == status and message.is_open
    assert attempt.problem is None if problem is None else problem in (attempt.problem or "")
    assert world.receiver.seen == 1, "a redirect is not followed"
    world.receiver.mood = "takes"
    await world.pass_time(MINUTE)
    assert seqs(world.receiver.taken) == [1]
    assert (await world.message(endpoint)).state == "delivered"


async def test_an_endless_answer_is_cut_off(world: World) -> None:
    endpoint = await world.endpoint()
    world.receiver.mood = "floods"
    await world.create("s1")
    await world.keeper.run()
    message = await world.message(endpoint)
    assert message.state == "delivered" and message.attempts[0].answer == "x" * 200
    await asyncio.sleep(0.2)
    assert world.receiver.sent < 64 * 2**20


async def test_gone_disables_the_endpoint_and_enabling_it_goes_on(world: World) -> None:
    endpoint = await world.endpoint()
    world.receiver.mood = "410 Gone"
    await world.create("s1")
    await world.keeper.run()
    disabled = await world.store.endpoint(endpoint.id)
    assert not disabled.enabled and "410" in (disabled.disabled_because or "")
    world.receiver.mood = "takes"
    await world.do("s1", Start())
    await world.pass_time(2 * 60 * MINUTE, step=10 * MINUTE)
    assert world.receiver.seen == 1
    await world.store.change_endpoint(endpoint.id, lambda one: replace(one, enabled=True, disabled_because=None))
    await world.pass_time(MINUTE)
    assert seqs(world.receiver.taken) == [1], "what happened while it was disabled is not told"


async def test_a_message_that_is_never_taken_holds_up_its_session_and_is_given_up(world: World) -> None:
    endpoint = await world.endpoint()
    world.receiver.mood = "400 Bad Request"
    await world.create("s1")
    await world.do("s1", Start())
    await world.keeper.run()
    world.receiver.mood = "takes"
    await world.create("s2")
    await world.keeper.run()
    assert [one["data"]["session_id"] for one in world.receiver.taken] == ["s2"]
    world.receiver.mood = "400 Bad Request"
    world.now += GIVE_UP_MS
    await world.keeper.clean()
    await world.keeper.run()
    by_seq = {m.seq: m for m in await world.store.messages(endpoint.id, 10) if m.session_id == "s1"}
    first, second = (by_seq[seq] for seq in sorted(by_seq))
    assert first.state == "failed" and second.tries <= 1


async def test_what_is_over_is_forgotten_after_a_week(world: World) -> None:
    endpoint = await world.endpoint()
    await world.create("s1")
    await world.keeper.run()
    world.now += KEEP_MS - MINUTE
    await world.keeper.clean()
    assert len(await world.store.messages(endpoint.id, 10)) == 1
    world.now += 2 * MINUTE
    await world.keeper.clean()
    assert await world.store.messages(endpoint.id, 10) == []


async def test_a_receiver_that_asks_for_time_gets_it(world: World) -> None:
    await world.endpoint()
    world.receiver.mood = "429 Too Many Requests\r\nretry-after: 120"
    await world.create("s1")
    await world.keeper.run()
    world.receiver.mood = "takes"
    await world.create("s2")
    await world.pass_time(110_000)
    assert world.receiver.taken == []
    await world.pass_time(30_000)
    assert len(world.receiver.taken) == 2


async def test_what_was_cut_short_is_made_up_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies after the messages were stored, after the queue was filled, and after one was sent."""
    endpoint = await world.endpoint()
    await world.interview("s1")
    for method in ("unmark", "add_messages"):
        with monkeypatch.context() as broken:
            broken.setattr(world.store, method, _fails)
            with pytest.raises(NotFound):
                await world.keeper.note()
    assert len(await world.store.queued(endpoint.id, 0, world.now, 100)) == 1, "the first of its session"
    world.keeper = WebhookKeeper(world.store, world.posts, lambda: world.now)
    await world.keeper.run()
    assert len(world.receiver.taken) == 10 and len({one["id"] for one in world.receiver.taken}) == 10


async def _fails(*args: Any) -> None:
    raise NotFound("the process has died")


async def test_what_was_sent_is_not_sent_again_because_it_cannot_be_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = await world.endpoint()
    await world.create("s1")
    await world.keeper.note()
    stores, failures = world.store.change_message, [OutcomeUnknown("away")] * 3

    async def sometimes(before: Message, after: Message) -> bool:
        if failures:
            raise failures.pop()
        return await stores(before, after)

    monkeypatch.setattr(world.store, "change_message", sometimes)
    monkeypatch.setattr("actors.webhook_keeper.STORE_PAUSES", (0.01,))
    await world.keeper.run()
    assert world.receiver.seen == 1 and not failures
    assert (await world.message(endpoint)).state == "delivered"


async def test_an_endpoint_that_cannot_be_signed_for_is_not_tried_all_the_time(world: World) -> None:
    endpoint = await world.endpoint()
    await world.store.change_endpoint(endpoint.id, lambda one: replace(one, secret="whsec_A"))
    await world.create("s1")
    await world.pass_time(MINUTE)
    message = await world.message(endpoint)
    assert 1 <= message.tries < 5 and "Error" in (message.attempts[0].problem or "")


async def test_a_deleted_session_leaves_no_deliveries_to_look_up(world: World) -> None:
    endpoint = await world.endpoint()
    await world.interview("s1")
    await world.keeper.run()
    await _delete(world, "s1")
    assert await world.store.messages(endpoint.id, 100) == []
    await world.keeper.run()
    assert [m.type for m in await world.store.messages(endpoint.id, 100)] == ["interview.deleted"]


async def test_events_of_a_session_that_is_deleted_meanwhile_are_told(world: World) -> None:
    await world.endpoint()
    await world.interview("s1")
    await _delete(world, "s1")
    await world.keeper.run()
    types = [one["type"] for one in world.receiver.of("s1")]
    assert types[0] == "interview.created" and types[-2:] == ["interview.completed", "interview.deleted"]
    assert "Ada" not in str(await world.store._db.journal.find({}).to_list(None))


async def _delete(world: World, session_id: str) -> None:
    session = await Session.load(world.store, session_id)
    await session.execute(Request(Delete(), STAFF, world.now), world.now)
    await world.store.erase(session_id)


async def test_only_who_wants_to_know_is_told_and_of_what_came_after(world: World) -> None:
    await world.create("s0")
    picky = await world.endpoint(events=("interview.started",))
    await world.interview("s1")
    await world.keeper.run()
    assert [m.type for m in await world.store.messages(picky.id, 100)] == ["interview.started"]
    assert not world.receiver.of("s0")


async def test_without_an_endpoint_nothing_is_marked(world: World) -> None:
    await world.interview("s1")
    assert await world.store.marked_entries(10) == []
    entries: list[Entry] = await world.store.entries("s1", 0, 0)
    assert all(entry.deliver == "" for entry in entries)


async def test_a_rotated_secret_is_good_for_a_day_beside_the_new_one(world: World) -> None:
    endpoint = await world.endpoint()
    await world.store.change_endpoint(endpoint.id, lambda one: one.rotated(world.now))
    await world.create("s1")
    await world.keeper.run()
    assert len(world.receiver.taken) == 1 and " " in world.receiver.headers["webhook-signature"]
    world.now += 25 * 60 * MINUTE
    await world.create("s2")
    await world.keeper.run()
    assert world.receiver.forged == 1 and " " not in world.receiver.headers["webhook-signature"]


async def test_deliveries_are_listed_newest_first_by_pages(world: World) -> None:
    endpoint = await world.endpoint()
    for number in range(5):
        world.now += 1000
        await world.create(f"s{number}")
    await world.keeper.run()
    first = await world.store.messages(endpoint.id, 3)
    second = await world.store.messages(endpoint.id, 3, first[-1].position)
    assert [m.session_id for m in [*first, *second]] == ["s4", "s3", "s2", "s1", "s0"]
    assert await world.store.delete_endpoint(endpoint.id)
    assert await world.store.messages(endpoint.id, 3) == []
