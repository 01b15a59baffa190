"""The board: read once for all consoles, told in changes, and nothing is read while nobody looks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from actors import board
from actors.board import MAX_CONSOLES, MAX_QUEUED, SWEEP_SECONDS, Board, Console
from orchestrator.errors import TooManyRequests, Unavailable
from orchestrator.interview.commands import Answer, Caller, End, Pause, Start
from orchestrator.storage.queries import Brief
from tests.unit.api_world import MemoryClient, virtual
from tests.unit.world import CANDIDATE, STAFF, create_command

SOON = 60.0


class World(MemoryClient):
    """Sessions in memory, and how often they were looked at."""

    looks = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.clock = board.wall_ms
        look = self.store.changed_since

        async def counted(at: int, limit: int) -> list[Brief]:
            self.looks += 1
            return await look(at, limit)

        self.store.changed_since = counted

    async def session(self, *commands: Any, **changes: Any) -> str:
        made = await self.create(create_command(**changes), Caller("staff", "staff"), None)
        session_id = str(made.session["session_id"])
        for command in commands:
            await self.elsewhere(session_id, command, CANDIDATE if isinstance(command, Start) else STAFF)
        return session_id


async def told(console: Console) -> tuple[str, dict[str, Any]]:
    """The next message: its type and data."""
    message = await console.next(SOON)
    assert message is not None and message.endswith(b"\n\n") and message.count(b"\n\n") == 1
    lines = dict(line.split(": ", 1) for line in message.decode().strip().splitlines())
    return lines["event"], json.loads(lines["data"])


async def told_all(console: Console) -> dict[str, Any]:
    event, data = await told(console)
    assert event == "all"
    return data


async def told_rows(console: Console) -> list[dict[str, Any]]:
    """Of the next change that has rows."""
    while True:
        event, data = await told(console)
        assert event == "change"
        if "rows" in data:
            return data["rows"]


@virtual
async def test_a_console_is_told_everything_once_and_then_what_changes() -> None:
    world = World()
    live = await world.session(Start(), name="Grace <script>")
    waiting, ended = await world.session(), await world.session(Start(), End(None))
    with Board(world).open() as console:
        everything = await told_all(console)
        rows = {row["session_id"]: row for row in everything["rows"]}
        assert rows.keys() == {live, waiting, ended}
        assert (everything["live"], everything["waiting"]) == (1, 1)
        assert rows[live]["name"] == "Grace <script>"
        assert everything["cluster"]["capacity"] == 8 and everything["trouble"] is None
        assert everything["chart"]["minutes"][-1] == [1, 2, 1]
        await world.elsewhere(live, Answer(0, "Because."), CANDIDATE)
        [row] = await told_rows(console)
        assert (row["session_id"], row["answered"]) == (live, 1)
        await world.elsewhere(waiting, Start(), CANDIDATE)
        [row] = await told_rows(console)
        assert row["status"] == "in_progress"


@virtual
async def test_what_has_not_changed_is_told_to_nobody() -> None:
    world = World()
    await world.session(Start())
    with Board(world).open() as console:
        await told_all(console)
        beats = [await told(console) for _ in range(3)]
        assert [set(data) - {"chart"} for _, data in beats] == [{"server_time"}] * 3, "that it lives, and no more"


@virtual
async def test_all_consoles_get_the_same_bytes_of_one_look() -> None:
    world = World()
    session_id = await world.session(Start())
    shared = Board(world)
    consoles = [shared.open() for _ in range(20)]
    for console in consoles:
        shared.add(console)
    assert len({id(await console.next(SOON)) for console in consoles}) == 1
    looks = world.looks
    await world.elsewhere(session_id, Pause(None))
    messages = [await console.next(SOON) for console in consoles]
    assert len({id(message) for message in messages}) == 1
    assert world.looks - looks <= 2, "it is looked once, however many watch"
    late = shared.open()
    shared.add(late)
    [row] = (await told_all(late))["rows"]
    assert row["question"]["deadline"] is None, "who comes later is told everything at once"
    for console in (*consoles, late):
        shared.remove(console)
    await asyncio.sleep(10)
    looks = world.looks
    await asyncio.sleep(60)
    assert world.looks == looks, "nobody looks, and nothing is read"


@virtual
async def test_a_console_that_takes_nothing_is_dropped_and_the_others_go_on() -> None:
    world = World()
    shared = Board(world)
    with shared.open() as slow, shared.open() as quick:
        await told_all(quick)
        for _ in range(MAX_QUEUED + 2):
            await world.session()
            await told_rows(quick)
        assert not slow.is_open and quick.is_open


@virtual
async def test_so_many_consoles_and_no_more() -> None:
    shared = Board(World())
    for _ in range(MAX_CONSOLES):
        shared.add(shared.open())
    with pytest.raises(TooManyRequests):
        shared.open()
    shared.close()


@virtual
async def test_a_deleted_session_is_gone_from_the_board() -> None:
    world = World()
    session_id = await world.session(Start())
    with Board(world).open() as console:
        await told_all(console)
        del world.states[session_id]
        async with asyncio.timeout(2 * SWEEP_SECONDS):
            while True:
                _, data = await told(console)
                if data.get("gone"):
                    break
        assert data["gone"] == [session_id] and data["live"] == 0


@virtual
async def test_while_the_database_or_the_registry_is_away_consoles_are_told() -> None:
    world = World()
    await world.session(Start())
    with Board(world).open() as console:
        await told_all(console)
        world.store.away = Unavailable("away")
        _, data = await told(console)
        assert "database" in data["trouble"]
        world.store.away = None
        world.failure = Unavailable("away")
        _, data = await told(console)
        assert data["trouble"] is None
        async with asyncio.timeout(10):
            while "Registry" not in (data.get("trouble") or ""):
                _, data = await told(console)


@virtual
async def test_who_comes_while_the_database_is_away_is_told_everything_later() -> None:
    world = World()
    await world.session(Start())
    world.store.away = Unavailable("away")
    with Board(world).open() as console:
        event, data = await told(console)
        assert event == "change" and "database" in data["trouble"]
        world.store.away = None
        assert len((await told_all(console))["rows"]) == 1


@virtual
async def test_of_very_many_some_are_shown_and_all_are_counted() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(board, "MAX_LIVE", 3)
        patch.setattr(board, "MAX_WAITING", 2)
        patch.setattr(board, "MAX_ENDED", 2)
        world = World()
        for _ in range(5):
            await world.session(Start())
            await world.session()
            await world.session(Start(), End(None))
        with Board(world).open() as console:
            everything = await told_all(console)
            assert (everything["live"], everything["waiting"]) == (5, 5)
            shown = [row["status"] for row in everything["rows"]]
            assert [shown.count(s) for s in ("in_progress", "initialized", "completed")] == [3, 2, 2]
            assert everything["chart"]["minutes"][-1] == [5, 10, 5]
