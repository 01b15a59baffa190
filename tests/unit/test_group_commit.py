"""The node's journal: GroupCommit and Outages, and the JournalActor over a storage that fails; and the Watchdog."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors import cluster, journal
from actors.journal import MAX_BATCH, OUTAGE_POLL_SECONDS, AppendResult, GroupCommit, JournalActor, NodeJournal, Outages
from actors.watchdog import Watchdog
from orchestrator.errors import OutcomeUnknown, Unavailable
from orchestrator.interview.entry import Entry, new_entry
from orchestrator.journal import Appended, Outage
from tests.unit.virtual import run_virtual
from tests.unit.world import T0

Clock = Callable[[], int]


def entry(number: int) -> Entry:
    return new_entry("s1", number, 0, 0, [])


def test_appends_gather_while_a_batch_is_written() -> None:
    batches: list[list[int]] = []

    async def write(batch: list[tuple[Entry, str]]) -> list[AppendResult]:
        batches.append([e.seq for e, _ in batch])
        await asyncio.sleep(1)
        return [Appended(str(e.seq)) for e, _ in batch]

    async def scenario(_: Callable[[], int]) -> None:
        commit = GroupCommit(write)
        first = asyncio.create_task(commit.append(entry(1), ""))
        await asyncio.sleep(0.1)
        rest = [asyncio.create_task(commit.append(entry(n), "")) for n in range(2, MAX_BATCH + 12)]
        results = [await task for task in (first, *rest)]
        assert [r.mac for r in results if isinstance(r, Appended)] == [str(n) for n in range(1, MAX_BATCH + 12)]

    run_virtual(scenario)
    assert [len(b) for b in batches] == [1, MAX_BATCH, 10]


def test_a_failed_batch_is_of_unknown_outcome_and_the_next_goes_on() -> None:
    tries = iter([True, False])

    async def write(batch: list[tuple[Entry, str]]) -> list[AppendResult]:
        if next(tries):
            raise RuntimeError("broken")
        return [Appended("") for _ in batch]

    async def scenario(_: Callable[[], int]) -> None:
        commit = GroupCommit(write)
        assert isinstance(await commit.append(entry(1), ""), OutcomeUnknown)
        assert isinstance(await commit.append(entry(1), ""), Appended)

    run_virtual(scenario)


# Outages


def test_a_gap_without_success_is_an_outage_and_a_short_one_is_not() -> None:
    outages = Outages()
    for at in (T0, T0 + 1_000, T0 + 4_000):
        outages.success(at)
    assert outages.last is None
    outages.success(T0 + 7_001)
    assert outages.last == Outage(T0 + 4_000, T0 + 7_001)


def test_all_who_wait_are_told_of_an_outage_once() -> None:
    async def scenario(clock: Clock) -> None:
        outages, told = Outages(), []

        async def watch() -> None:
            after = clock()
            while True:
                outage = await outages.next(after)
                if outage is not None:
                    told.append(outage)
                    after = outage.until

        watching = [asyncio.create_task(watch()) for _ in range(3)]
        outages.success(clock())
        await asyncio.sleep(10)
        outages.success(clock())
        await asyncio.sleep(100)
        assert told == [Outage(T0, T0 + 10_000)] * 3
        outages.success(clock())
        await asyncio.sleep(1)
        assert told[3:] == [Outage(T0 + 10_000, T0 + 110_000)] * 3
        assert not any(task.done() for task in watching)

    run_virtual(scenario)


def test_who_asks_late_is_told_of_the_last_outage_and_who_knows_it_is_not() -> None:
    async def scenario(clock: Clock) -> None:
        outages = Outages()
        outages.success(T0)
        outages.success(T0 + 9_000)
        assert await outages.next(T0 + 8_000) == Outage(T0, T0 + 9_000)
        asked = clock()
        assert await outages.next(T0 + 9_000) is None
        assert clock() - asked == OUTAGE_POLL_SECONDS * 1000

    run_virtual(scenario)


def test_without_an_outage_a_poll_ends_after_a_while() -> None:
    async def scenario(clock: Clock) -> None:
        outages = Outages()
        outages.success(clock())
        assert await outages.next(clock()) is None
        assert clock() == T0 + OUTAGE_POLL_SECONDS * 1000

    run_virtual(scenario)


# JournalActor


class Storage:
    """The storage behind a JournalActor: it is away, slow, or works."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.away, self.proof = clock, False, None
        self.written: list[int] = []
        self.refuses_proofs = False

    async def append(self, entry: Entry, prev_mac: str) -> Appended:
        return (await self.append_many([(entry, prev_mac)]))[0]

    async def append_many(self, batch: list[tuple[Entry, str]]) -> list[Any]:
        if self.away:
            raise Unavailable("away")
        self.written += [e.seq for e, _ in batch]
        return [Appended(str(e.seq)) for e, _ in batch]

    async def load(self, session_id: str) -> None:
        if self.away:
            raise Unavailable("away")

    async def last_alive(self, holder: str) -> int | None:
        return self.proof

    async def alive(self, holder: str, now: int) -> None:
        if self.away:
            raise Unavailable("away")
        if self.refuses_proofs:
            raise OutcomeUnknown("not allowed")
        self.proof = now


@pytest.fixture
def run_actor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a scenario with the storage, and a function that starts a JournalActor."""

    def run(scenario: Callable[[Storage, Callable[[], JournalActor]], Awaitable[None]]) -> None:
        async def with_actor(clock: Clock) -> None:
            storage = Storage(clock)

            async def open_store() -> Storage:
                return storage

            monkeypatch.setattr(journal, "wall_ms", clock)
            monkeypatch.setattr(journal.logs, "configure", lambda *_: None)
            monkeypatch.setattr(cluster, "raise_priority", lambda _: None)
            monkeypatch.setattr(cluster, "own_node_id", lambda: "node-1")
            monkeypatch.setattr("actors.storage.open_store", open_store)
            await scenario(storage, lambda: JournalActor("JournalActor-1"))

        run_virtual(with_actor)

    return run


def test_an_error_says_since_when_the_storage_is_away(run_actor: Callable[..., None]) -> None:
    async def scenario(storage: Storage, start: Callable[[], JournalActor]) -> None:
        actor = start()
        await asyncio.sleep(5.5)
        assert isinstance(await actor.append(entry(1), ""), Appended)
        last = storage.clock()
        storage.away = True
        await asyncio.sleep(20)
        for error in (await actor.append(entry(2), ""), await actor.load("s1")):
            assert isinstance(error, Unavailable) and error.fields["since"] == last

    run_actor(scenario)


def test_an_outage_is_told_to_actors_that_did_nothing(run_actor: Callable[..., None]) -> None:
    async def scenario(storage: Storage, start: Callable[[], JournalActor]) -> None:
        actor = start()
        await asyncio.sleep(5.5)
        watching = asyncio.create_task(actor.next_outage(storage.clock()))
        storage.away = True
        await asyncio.sleep(20)
        assert not watching.done()
        storage.away = False
        outage = await watching
        assert outage is not None and 20_000 <= outage.until - outage.since <= 22_000

    run_actor(scenario)


def test_a_journal_actor_that_was_away_itself_is_an_outage_too(run_actor: Callable[..., None]) -> None:
    async def scenario(storage: Storage, start: Callable[[], JournalActor]) -> None:
        storage.proof = storage.clock() - 15_000
        actor = start()
        outage = await actor.next_outage(storage.clock() - 1)
        assert outage is not None and outage.until - outage.since == 15_000

    run_actor(scenario)


def test_who_has_not_heard_of_an_outage_is_told_before_anything_is_written(run_actor: Callable[..., None]) -> None:
    async def scenario(storage: Storage, start: Callable[[], JournalActor]) -> None:
        actor = start()
        await asyncio.sleep(5.5)
        heard = last = storage.clock() - 500
        storage.away = True
        await asyncio.sleep(20)
        refused = await actor.append(entry(2), "", heard)
        assert isinstance(refused, Unavailable) and refused.fields["since"] == last
        storage.away = False
        told = await actor.append(entry(2), "", heard)
        assert isinstance(told, Outage) and told == Outage(last, storage.clock())
        assert storage.written == []
        assert isinstance(await actor.append(entry(2), "", told.until), Appended)
        assert isinstance(await actor.append(entry(3), ""), Appended), "who watches nothing is told nothing"

    run_actor(scenario)


def test_who_has_not_heard_that_the_journal_actor_itself_was_away_is_told_too(run_actor: Callable[..., None]) -> None:
    async def scenario(storage: Storage, start: Callable[[], JournalActor]) -> None:
        storage.proof = storage.clock() - 15_000
        told = await start().append(entry(1), "", storage.clock() - 20_000)
        assert isinstance(told, Outage) and told.until - told.since == 15_000 and storage.written == []

    run_actor(scenario)


def test_a_proof_of_life_that_is_refused_keeps_no_entry_from_being_written(run_actor: Callable[..., None]) -> None:
    async def scenario(storage: Storage, start: Callable[[], JournalActor]) -> None:
        actor = start()
        await asyncio.sleep(5)
        storage.refuses_proofs = True
        await asyncio.sleep(20)
        assert isinstance(await actor.append(entry(1), "", storage.clock() - 30_000), Appended)

    run_actor(scenario)


async def test_an_owner_has_heard_of_what_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Any, ...]] = []

    async def call(actor: str, method: str, *args: Any, timeout: float) -> Any:
        told.append((method, *args[-1:]))
        return Outage(5_000, 9_000) if method == "next_outage" or told[-1][1] in (2_000, 3_000) else Appended("")

    async def ensure_journal(node: str) -> str:
        return "JournalActor"

    monkeypatch.setattr(cluster, "call", call)
    monkeypatch.setattr(cluster, "ensure_journal", ensure_journal)
    node = NodeJournal("node-1")
    assert await node.append(entry(1), "") == Appended("")
    assert told == [("append", None)]
    await node.next_outage(3_000)
    assert await node.append(entry(2), "") == Outage(5_000, 9_000)
    assert await node.append(entry(2), "") == Appended("")
    await node.next_outage(8_000)
    await node.append(entry(3), "")
    assert told[1:] == [
        ("next_outage", 3_000),
        ("append", 3_000),
        ("append", 9_000),
        ("next_outage", 8_000),
        ("append", 9_000),
    ]


# Watchdog


class Pings:
    """A system actor that answers, is silent or is dead; and what is done about it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: Exception | None = None
        self.restarted: list[Any] = []
        self.watchdog = Watchdog()
        monkeypatch.setattr(cluster, "call", self._call)
        monkeypatch.setattr(cluster, "restart", self.restarted.append)

    async def _call(self, handle: str, method: str, timeout: float) -> bool:
        assert method == "ping"
        if self.error is not None:
            raise self.error
        return True

    async def look(self, error: Exception | None, name: str = "Registry") -> None:
        self.error = error
        await self.watchdog.look(name, name)


@pytest.fixture
def pings(monkeypatch: pytest.MonkeyPatch) -> Pings:
    return Pings(monkeypatch)


SILENT, GONE, AWAY = cluster.ActorSilent("silent"), cluster.ActorGone("gone"), cluster.ActorAway("away")


async def test_two_silent_pings_restart_an_actor_and_it_has_two_again(pings: Pings) -> None:
    await pings.look(None)
    await pings.look(SILENT)
    assert pings.restarted == []
    await pings.look(SILENT)
    assert pings.restarted == ["Registry"]
    await pings.look(SILENT)
    assert pings.restarted == ["Registry"]


@pytest.mark.parametrize("between", [None, GONE], ids=["an answer", "a death"])
async def test_an_answer_or_a_death_between_two_silences_restarts_nothing(
    pings: Pings, between: Exception | None
) -> None:
    for error in (SILENT, between, SILENT):
        await pings.look(error)
    assert pings.restarted == []


async def test_an_actor_that_is_starting_is_given_time(pings: Pings) -> None:
    await pings.look(None)
    for error in (AWAY, SILENT, SILENT, SILENT, SILENT):
        await pings.look(error)
    assert pings.restarted == []
    for _ in range(40):
        await pings.look(SILENT)
    assert pings.restarted == ["Registry"]


async def test_a_dead_actor_is_left_to_ray(pings: Pings) -> None:
    for _ in range(5):
        await pings.look(GONE)
    assert pings.restarted == []


async def test_the_silences_of_two_actors_are_not_added_up(pings: Pings) -> None:
    await pings.look(SILENT, "Registry")
    await pings.look(SILENT, "Housekeeper")
    assert pings.restarted == []
