"""How large the cluster is to be: what is asked for, and which node is emptied."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest

from actors.scaling import (
    HOLD_SECONDS,
    MAX_BUNDLES,
    REFUSED_SECONDS,
    REPEAT_SECONDS,
    Amount,
    Ask,
    NodeRoom,
    Packing,
    Refusals,
    Rooms,
    Use,
    bundles,
)

GIB = 2.0**30
UNIT = Amount(0.1, GIB / 16)
OWN = Amount(0.1, GIB / 16, 1)


def room(free: int, of: int = 10, *, is_head: bool = False) -> NodeRoom:
    return NodeRoom(UNIT.times(of), UNIT.times(free), is_head)


# Places


def test_places_are_those_of_the_scarcest_resource() -> None:
    assert Amount(1.0, 100 * GIB).places(UNIT) == 10
    assert Amount(100, GIB).places(UNIT) == 16
    assert Amount(100, 100 * GIB, 7).places(OWN) == 7
    assert Amount(100, 100 * GIB, 0).places(OWN) == 0


def test_fractions_do_not_cost_a_place() -> None:
    assert Amount(0.1 * 3, 100 * GIB).places(UNIT) == 3
    assert Amount(1.0 - 0.1 - 0.1, 100 * GIB).places(UNIT) == 8


# Who was refused


def test_a_refused_session_counts_once_and_for_a_minute_after_its_last_try() -> None:
    refusals = Refusals()
    for at in (0, 5, 10):
        refusals.note("a", at)
    refusals.note("b", 20)
    assert refusals.count(30) == 2
    assert refusals.count(10 + REFUSED_SECONDS + 1) == 1
    assert refusals.count(20 + REFUSED_SECONDS + 1) == 0


def test_one_that_has_a_place_counts_no_more() -> None:
    refusals = Refusals()
    refusals.note("a", 0)
    refusals.settle("a")
    refusals.settle("never refused")
    assert refusals.count(1) == 0


# What is asked for


def total(pieces: list[tuple[Amount, int]]) -> float:
    return sum(amount.cpu * count for amount, count in pieces)


def test_what_is_used_and_what_is_missing_are_asked_for() -> None:
    pieces = bundles({"a": room(0), "b": room(4), "c": room(10)}, (), UNIT, 5)
    assert total(pieces) == pytest.approx((10 + 6 + 5) * UNIT.cpu)


def test_a_node_that_takes_nothing_counts_as_full() -> None:
    pieces = bundles({"a": room(10), "b": room(8)}, {"a"}, UNIT, 1)
    assert total(pieces) == pytest.approx((10 + 2 + 1) * UNIT.cpu)


@pytest.mark.parametrize("missing", [1, 7, 199, 200, 201, 5_000, 100_003])
def test_many_places_are_asked_for_in_few_pieces_none_too_large_for_a_node(missing: int) -> None:
    pieces = bundles({"a": room(1000, 1000)}, (), OWN._replace(own=math.inf), missing)
    assert total(pieces) == pytest.approx(min(missing, 100 * MAX_BUNDLES) * UNIT.cpu), "the rest when these are there"
    assert all(amount.cpu <= 100 * UNIT.cpu + 1e-9 for amount, _ in pieces)
    assert sum(count for _, count in pieces) <= MAX_BUNDLES + 1


def test_nothing_is_asked_for_while_there_is_room() -> None:
    assert Ask().places(0, infeasible=False, now=1000) is None


def test_what_was_missing_stays_asked_for_until_new_nodes_are_in_use() -> None:
    ask = Ask()
    assert ask.places(50, infeasible=False, now=0) == 50
    assert ask.places(0, infeasible=False, now=HOLD_SECONDS - 1) == 0, "what is used, and no more"
    assert ask.places(0, infeasible=False, now=HOLD_SECONDS + 1) is None


def test_a_request_beyond_the_largest_cluster_is_halved_until_ray_can_meet_it() -> None:
    ask, most, missing, now, asked = Ask(), 70, 1000, 0.0, 0
    infeasible = False
    while missing > 1000 - most and now < 1000:
        asked = ask.places(missing, infeasible, now) or 0
        infeasible = asked > missing - (1000 - most)
        if not infeasible:
            missing -= asked  # the nodes have come
        now += 5
    assert missing == 1000 - most, "all that can be had was had"
    assert now < 300


def test_the_same_is_asked_again_now_and_then() -> None:
    ask = Ask()
    assert ask.is_news([1], 0)
    assert not ask.is_news([1], REPEAT_SECONDS - 1)
    assert ask.is_news([1], REPEAT_SECONDS)
    assert ask.is_news([2], REPEAT_SECONDS + 1)
    assert ask.is_news([], REPEAT_SECONDS + 2)
    assert not ask.is_news([], 10 * REPEAT_SECONDS), "that nothing is wanted need not be repeated"
    ask.forget()
    assert ask.is_news([], 10 * REPEAT_SECONDS)


# Which node to empty

Look = Callable[..., set[str]]


def looks(packing: Packing, rooms: Rooms) -> Look:
    def look(
        now: float,
        wanted: int,
        live: Mapping[str, int] | None = None,
        warm: Mapping[str, int] | None = None,
        gone: frozenset[str] = frozenset(),
        rooms: Rooms = rooms,
    ) -> set[str]:
        packing.look(rooms, gone, UNIT, Use(live or {}, warm or {}), wanted, now)
        return set(packing.leaving)

    return look


def test_a_node_that_is_not_needed_for_long_is_emptied_the_least_used_first() -> None:
    look = looks(Packing(60), {"a": room(8), "b": room(9), "c": room(10)})
    warm = {"a": 2, "b": 1}
    assert look(0, 3, warm=warm) == set()
    assert look(59, 3, warm=warm) == set()
    assert look(60, 3, warm=warm) == {"c"}
    assert look(61, 3, warm=warm) == {"c", "b"}
    assert look(1000, 3, warm=warm) == {"c", "b"}, "what is wanted has to have a place"


def test_a_node_with_a_live_interview_is_left_alone() -> None:
    look = looks(Packing(60), {"a": room(9), "b": room(9)})
    for now in range(0, 600, 10):
        assert look(now, 2, live={"a": 1, "b": 1}) == set()
    assert look(600, 2, live={"a": 1}) == set()
    assert look(660, 2, live={"a": 1}) == {"b"}


def test_the_head_is_never_emptied() -> None:
    look = looks(Packing(60), {"a": room(10, is_head=True), "b": room(0)})
    look(0, 0)
    assert look(100, 0) == set()


def test_the_clock_of_a_node_begins_anew_when_it_was_needed() -> None:
    look = looks(Packing(60), {"a": room(10), "b": room(10)})
    look(0, 2)
    look(50, 15)
    look(55, 2)
    assert look(114, 2) == set()
    assert len(look(115, 2)) == 1


def test_a_node_that_was_emptied_is_taken_back_when_more_is_wanted() -> None:
    look = looks(Packing(60), {"a": room(9), "b": room(10)})
    look(0, 2, live={"a": 1})
    assert look(60, 2, live={"a": 1}) == {"b"}
    assert look(61, 9, live={"a": 1}) == {"b"}
    assert look(62, 10, live={"a": 1}) == set()


def test_a_node_that_got_an_interview_at_the_last_moment_is_taken_back() -> None:
    look = looks(Packing(60), {"a": room(9), "b": room(10)})
    look(0, 2, live={"a": 1})
    assert look(60, 2, live={"a": 1}) == {"b"}
    assert look(61, 2, live={"a": 1, "b": 1}) == set()


def test_nodes_that_are_gone_or_drained_are_not_counted() -> None:
    rooms = {"a": room(9), "b": room(10), "c": room(10)}
    look = looks(Packing(60), rooms)
    look(0, 2, live={"a": 1})
    assert look(60, 2, live={"a": 1}) == {"b"}
    assert look(61, 2, live={"a": 1}, gone=frozenset("b")) == {"c"}, "ray has begun to end the other one"
    assert look(62, 9, live={"a": 1}, gone=frozenset("ab")) == set(), "nothing else is left"
    assert look(63, 9, live={"a": 1}, rooms={"a": room(9)}) == set()


def test_nothing_is_emptied_unless_it_is_asked_for() -> None:
    look = looks(Packing(None), {"a": room(10), "b": room(10)})
    look(0, 0)
    assert look(1e9, 0) == set()
