"""What a front end repeats while a session moves from one actor to another: drafts and notes as well as commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors import client, cluster
from actors.client import COMMAND_SECONDS, InterviewClient
from actors.holders import Holders
from actors.supervisor import Placement
from orchestrator.errors import NotFound, OutcomeUnknown
from orchestrator.interview.commands import Pause
from orchestrator.interview.sightings import Sighting
from tests.unit.fake_cluster import Process, World
from tests.unit.virtual import run_virtual
from tests.unit.world import STAFF, T0

Call = Callable[[InterviewClient], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "command": lambda front_end: front_end.send("s1", Pause(), STAFF),
    "draft": lambda front_end: front_end.draft("s1", 0, "the last words", 1, STAFF),
    "note": lambda front_end: front_end.note("s1", (Sighting("paste", "page", T0),), STAFF, None),
}


class _Tail:
    def nudge(self, session_id: str) -> None: ...


class FrontEnd(InterviewClient):
    """A front end over a World. For the first `moving` times that somebody asks, nobody holds the session."""

    def __init__(self, world: World, moving: int) -> None:
        self.world, self.moving, self.asked = world, moving, 0
        self.store, self.tail = world.store, _Tail()  # pyright: ignore[reportAttributeAccessIssue]
        self._holders, self._recent, self._tasks = Holders(), {}, set()

    async def find(self, name: str) -> Process | None:
        return await self.world._find(name) if self.asked >= self.moving else None

    async def _registry_call(self, method: str, *args: Any, timeout: float) -> Any:
        assert method == "ensure"
        self.asked += 1
        if self.asked <= self.moving:
            raise NotFound.session(args[0])
        return Placement((await self.world.holder()).name, None)


def run(monkeypatch: pytest.MonkeyPatch, moving: int, scenario: Callable[[FrontEnd], Awaitable[None]]) -> None:
    async def with_front_end(clock: Callable[[], int]) -> None:
        world = World(monkeypatch, clock)
        monkeypatch.setattr(client, "wall_ms", clock)
        await world.start_registry()
        await world.start()
        await asyncio.sleep(5)
        front_end = FrontEnd(world, moving)
        monkeypatch.setattr(cluster, "find", front_end.find)
        await scenario(front_end)

    run_virtual(with_front_end)


@pytest.mark.parametrize("kind", CALLS)
def test_what_finds_the_session_between_two_actors_is_sent_again(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    async def scenario(front_end: FrontEnd) -> None:
        await CALLS[kind](front_end)
        assert front_end.asked == 3

    run(monkeypatch, 3, scenario)


@pytest.mark.parametrize("kind", CALLS)
def test_and_not_for_ever(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    async def scenario(front_end: FrontEnd) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(OutcomeUnknown):
            await CALLS[kind](front_end)
        assert COMMAND_SECONDS - 0.5 < loop.time() - began <= COMMAND_SECONDS

    run(monkeypatch, 1_000_000, scenario)
