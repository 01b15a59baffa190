"""What a front end knows of the actors that hold sessions, with a cluster of names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors import cluster, holders
from actors.holders import Holder, Holders
from orchestrator.errors import Unavailable


class Actors:
    """Actors by name; those in `dead` are found and do not answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: set[str] = set()
        self.dead: set[str] = set()
        self.pinged: list[str] = []
        self.at_once = self.most_at_once = 0
        self.meanwhile: Callable[[], None] = lambda: None
        monkeypatch.setattr(cluster, "find", self._find)
        monkeypatch.setattr(cluster, "call", self._call)

    async def _find(self, name: str) -> str | None:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return name if name in self.names else None

    async def _call(self, handle: str, method: str, **_: Any) -> None:
        assert method == "ping"
        self.pinged.append(handle)
        self.meanwhile()
        if handle in self.dead:
            raise cluster.ActorGone("gone")


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> Actors:
    return Actors(monkeypatch)


async def test_it_gets_to_know_who_is_new_and_asks_nobody_twice(actors: Actors) -> None:
    known = Holders()
    actors.names = {"a1", "a2", "a3"}
    await known.learn({"s1": "a1", "s2": "a2"})
    await known.learn({"s1": "a1", "s2": "a3"})
    assert known.get("s1") == Holder("a1", "a1") and known.get("s2") == Holder("a3", "a3")
    assert sorted(actors.pinged) == ["a1", "a2", "a3"]


async def test_one_that_is_not_there_or_does_not_answer_is_not_known(actors: Actors) -> None:
    known = Holders()
    actors.names = actors.dead = {"a1"}
    await known.learn({"s1": "a1", "s2": "a2"})
    assert known.get("s1") is None and known.get("s2") is None


async def test_who_holds_nothing_any_more_is_forgotten_after_the_second_look(actors: Actors) -> None:
    known = Holders()
    known.keep("s1", Holder("a1", "a1"))  # it has just been started, and the Registry said who holds what before
    await known.learn({})
    assert known.get("s1") is not None
    await known.learn({})
    assert known.get("s1") is None


async def test_what_a_call_here_has_learnt_meanwhile_stays(actors: Actors) -> None:
    known, newer = Holders(), Holder("a2", "a2")
    actors.names = {"a1"}
    actors.meanwhile = lambda: known.keep("s1", newer)
    await known.learn({"s1": "a1"})
    assert known.get("s1") is newer


async def test_a_few_are_met_at_a_time(actors: Actors) -> None:
    known = Holders()
    actors.names = {f"a{number}" for number in range(50)}
    await known.learn({f"s{number}": f"a{number}" for number in range(50)})
    assert all(known.get(f"s{number}") for number in range(50)) and actors.most_at_once == holders.LEARN_AT_ONCE


async def test_with_too_many_the_longest_known_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "MAX_HOLDERS", 2)
    known = Holders()
    for number in range(3):
        known.keep(f"s{number}", Holder("a", "a"))
    assert [known.get(f"s{number}") is not None for number in range(3)] == [False, True, True]


async def test_it_goes_on_although_the_registry_is_away(actors: Actors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "LEARN_SECONDS", 0.001)
    errors: list[Exception] = [Unavailable("away"), AttributeError("held")]

    async def held() -> dict[str, str]:
        if errors:
            raise errors.pop(0)
        return {"s1": "a1"}

    known = Holders()
    actors.names = {"a1"}
    task = asyncio.create_task(known.learn_for_ever(held))
    async with asyncio.timeout(5):
        while known.get("s1") is None:
            await asyncio.sleep(0.001)
    task.cancel()
