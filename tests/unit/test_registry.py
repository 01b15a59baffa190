"""Registry as a plain class: real actors in fake processes, a store in memory, and a clock that jumps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from actors import cluster
from actors.interview import Activation
from actors.registry import RECOVER_AT_ONCE, Registry
from actors.supervisor import Placement
from orchestrator.errors import ClusterFull, Fenced, NotFound, OutcomeUnknown, Retryable, Unavailable
from orchestrator.interview.commands import Answer, Consent, End, Extend
from orchestrator.interview.entry import Entry
from orchestrator.interview.state import dump_state
from orchestrator.journal import Loaded
from orchestrator.session import Reply, Request, Session, state_of
from tests.unit.fake_cluster import Clock, MemoryStore, Process, World
from tests.unit.virtual import run_virtual
from tests.unit.world import CANDIDATE, STAFF, new_session

Scenario = Callable[[World], Awaitable[None]]
Run = Callable[..., None]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a scenario in a world whose Registry is up, with its warm actors."""

    def run_in_world(scenario: Scenario, **options: Any) -> None:
        async def in_world(clock: Clock) -> None:
            world = World(monkeypatch, clock, **options)
            await world.start_registry()
            await asyncio.sleep(5)
            await scenario(world)

        run_virtual(in_world)

    return run_in_world


def test_a_start_is_placed_on_a_warm_actor_and_another_is_started(run: Run) -> None:
    async def scenario(world: World) -> None:
        assert (await world.registry.status())["warm_actors"] == 2
        process = await world.start()
        status = await world.registry.status()
        assert status["placements"] == {process.name: "s1"}
        assert await world.registry.held() == {"s1": process.name}
        await asyncio.sleep(5)
        assert (await world.registry.status())["warm_actors"] == 2

    run(scenario)


def test_a_completed_interviews_actor_is_ended_and_the_session_left_alone(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start(questions=1)
        assert isinstance(await world.send(Answer(0, "x")), Reply)
        await asyncio.sleep(2)
        assert process.dead and (await world.registry.status())["live_actors"] == 0
        assert (await world.state()).epoch == 1

    run(scenario)


# Actors that die


def test_the_session_of_a_killed_actor_is_taken_up_and_the_time_credited(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await asyncio.sleep(20.5)
        proof = world.store.proofs["node-1"]
        process.kill()
        other = await world.held_by(other_than=process)
        state = await world.state()
        assert state.epoch == 2 and (await world.registry.status())["placements"] == {other.name: "s1"}
        assert 500 <= (await world.credits())["crash"] <= world.clock() - proof
        assert isinstance(await world.send(Answer(0, "x")), Reply)

    run(scenario)


def test_a_node_that_dies_is_credited_from_its_last_proof_of_life(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        node, died = process.node, world.clock()
        world.places.pop(node)  # no proof of life from here on
        await asyncio.sleep(20)
        for lost in [p for p in world.alive() if p.node == node]:
            lost.kill()
        assert (await world.held_by(other_than=process)).node != node
        assert 20_000 <= (await world.credits())["crash"] <= world.clock() - died + 1_000

    run(scenario, places={"node-1": 10, "node-2": 10})


def test_ensure_joins_an_activation_that_is_under_way(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        world.store.slow = 0.8
        process.kill()
        await asyncio.sleep(0.01)
        placements = await asyncio.gather(*(world.registry.ensure("s1", process.name) for _ in range(5)))
        assert {p.actor for p in placements if isinstance(p, Placement)} == {(await world.holder()).name}
        assert (await world.state()).epoch == 2

    run(scenario)


def test_ensure_waits_for_the_supervisor_of_an_actor_that_was_just_seen_dead(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        process.kill()
        placement = await world.registry.ensure("s1", process.name)
        assert isinstance(placement, Placement) and placement.actor != process.name

    run(scenario)


def test_ensure_takes_nothing_up_that_needs_no_actor(run: Run) -> None:
    async def scenario(world: World) -> None:
        await new_session(world.store)
        assert isinstance(await world.registry.ensure("s1"), NotFound)
        assert isinstance(await world.registry.ensure("unknown"), NotFound)

    run(scenario)


def test_two_starts_at_once_are_one_activation(run: Run) -> None:
    async def scenario(world: World) -> None:
        activation = world.starts(await new_session(world.store, at=world.clock()))
        first, second = await asyncio.gather(*(world.registry.activate(activation) for _ in range(2)))
        assert isinstance(first, Placement) and isinstance(second, Placement)
        assert first.actor == second.actor and (first.reply is None) != (second.reply is None)
        assert (await world.state()).epoch == 1

    run(scenario)


# Actors that hang


def test_a_hung_actor_is_replaced_and_the_interval_credited(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await world.send(Consent())
        await asyncio.sleep(10)
        since = world.clock()
        process.stop()
        await asyncio.sleep(2)
        assert await world.registry.suspect("s1", process.name, since)
        taken = world.clock()
        assert process.dead and (await world.holder()).name != process.name
        assert (await world.state()).epoch == 2
        assert 2_000 <= (await world.credits())["hung"] <= taken - since

    run(scenario)


def test_a_healthy_actor_is_left_alone(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        assert not await world.registry.suspect("s1", process.name, world.clock() - 2_000)
        assert (await world.state()).epoch == 1 and not process.dead

    run(scenario)


def test_two_suspicions_at_once_make_one_activation(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        process.stop()
        looks = [world.registry.suspect("s1", process.name, world.clock()) for _ in range(2)]
        assert await asyncio.gather(*looks) == [True, True]
        await asyncio.sleep(5)
        assert (await world.state()).epoch == 2

    run(scenario)


async def suspect_ten_that_are_stopped(world: World) -> dict[str, tuple[Process, asyncio.Task[bool]]]:
    """By session, its actor's process, which does not run, and the Registry's look at it."""
    processes = {session_id: await world.start(session_id) for session_id in (f"s{n}" for n in range(1, 11))}
    for process in processes.values():
        process.stop()
    return {
        session_id: (process, asyncio.create_task(world.registry.suspect(session_id, process.name, world.clock())))
        for session_id, process in processes.items()
    }


def test_of_many_actors_that_are_slow_at_once_few_are_replaced(run: Run) -> None:
    async def scenario(world: World) -> None:
        suspected = await suspect_ten_that_are_stopped(world)
        await asyncio.sleep(3)
        for process, _ in suspected.values():
            process.go_on()
        replaced = {session_id: await look for session_id, (_, look) in suspected.items()}
        assert sum(replaced.values()) == 4
        for session_id, is_replaced in replaced.items():
            assert (await world.state(session_id)).epoch == (2 if is_replaced else 1)

    run(scenario)


def test_of_many_actors_that_hang_at_once_all_are_replaced(run: Run) -> None:
    async def scenario(world: World) -> None:
        for session_id, (_, look) in (await suspect_ten_that_are_stopped(world)).items():
            assert await look and (await world.state(session_id)).epoch == 2

    run(scenario)


def test_a_suspicion_of_an_actor_that_holds_the_session_no_longer_changes_nothing(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        process.kill()
        other = await world.held_by(other_than=process)
        assert await world.registry.suspect("s1", process.name, world.clock())
        assert (await world.holder()).name == other.name

    run(scenario)


def test_a_hung_actor_that_goes_on_after_it_was_replaced_writes_nothing(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await world.send(Consent())
        process.stop()
        process.cut()  # so nobody can end it
        await world.registry.suspect("s1", process.name, world.clock())
        await world.held_by(other_than=process)
        entries = dict(world.store.entries)
        process.go_on()
        late = await process.actor.execute("s1", Request(Answer(0, "late"), STAFF, world.clock()))
        assert isinstance(late, Fenced)
        await asyncio.sleep(10)
        assert world.store.entries == entries and process.dead

    run(scenario)


def test_a_new_registry_replaces_and_ends_an_actor_that_hangs(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await asyncio.sleep(15)
        process.stop()
        await world.start_registry()
        await world.held_by(other_than=process)
        assert (await world.state()).epoch == 2 and process.dead

    run(scenario)


# Actors that cannot be reached


def test_an_actor_that_cannot_be_reached_for_a_moment_keeps_its_session(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        process.cut()
        await asyncio.sleep(1)
        process.mend()
        await asyncio.sleep(10)
        assert (await world.state()).epoch == 1 and not process.dead
        process.kill()
        await world.held_by(other_than=process)
        assert (await world.state()).epoch == 2

    run(scenario)


def test_an_actor_that_is_cut_off_is_replaced_and_ends_itself_when_it_finds_out(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        process.cut()
        other = await world.held_by(other_than=process)
        assert (await world.state()).epoch == 2 and not process.dead
        assert isinstance(await world.send(Consent()), Reply)
        late = await process.actor.execute("s1", Request(Answer(0, "late"), STAFF, world.clock()))
        assert isinstance(late, Fenced)
        await asyncio.sleep(10)
        assert process.dead and (await world.registry.status())["placements"] == {other.name: "s1"}

    run(scenario)


# A Registry that follows another


def test_a_new_registry_finds_every_live_actor_and_the_warm_ones(run: Run) -> None:
    async def scenario(world: World) -> None:
        held = {(await world.start(f"s{n}")).name: f"s{n}" for n in range(3)}
        await asyncio.sleep(5)
        before = {p.name for p in world.alive()}
        await world.start_registry()
        status = await world.registry.status()
        assert status["placements"] == held and status["warm_actors"] == 2
        await asyncio.sleep(30)
        assert {p.name for p in world.alive()} == before
        assert [(await world.state(s)).epoch for s in held.values()] == [1, 1, 1]

    run(scenario)


def test_a_new_registry_finds_the_actors_that_were_starting(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.boot_seconds = 2.0
        await world.start()
        await asyncio.sleep(0.5)
        assert (await world.registry.status())["starting_actors"] == 1
        await world.start_registry()
        await asyncio.sleep(30)
        status = await world.registry.status()
        assert len(world.alive()) == status["live_actors"] + status["warm_actors"] + status["starting_actors"]

    run(scenario)


def test_a_new_registry_finds_a_warm_actor_that_was_slow_to_answer(run: Run) -> None:
    async def scenario(world: World) -> None:
        slow = world.alive()[0]
        slow.stop()
        await world.start_registry()
        slow.go_on()
        await asyncio.sleep(30)
        status = await world.registry.status()
        assert len(world.alive()) == status["live_actors"] + status["warm_actors"] + status["starting_actors"]

    run(scenario)


def test_a_new_registry_supervises_what_it_found(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await world.start_registry()
        process.kill()
        await world.held_by(other_than=process)
        assert (await world.state()).epoch == 2

    run(scenario)


def test_of_two_actors_that_claim_a_session_the_newer_epoch_is_kept(run: Run) -> None:
    async def scenario(world: World) -> None:
        old = await world.start()
        warm = next(p for p in world.alive() if p is not old)
        activation = Activation("s1", None, "hung", silent_since=world.clock())
        running = asyncio.create_task(warm.actor.run(activation))
        await warm.actor.activated("s1")
        await world.start_registry()
        assert (await world.registry.status())["placements"] == {warm.name: "s1"}
        assert old.dead and not warm.dead and not running.done()
        await asyncio.sleep(15)
        assert (await world.state()).epoch == 2

    run(scenario)


def test_an_interview_whose_actor_died_with_the_registry_is_recovered(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        world.kill_registry()
        process.kill()
        await asyncio.sleep(1)
        await world.start_registry()
        await world.held_by(other_than=process)
        assert (await world.state()).epoch == 2

    run(scenario)


def test_the_time_without_actor_and_registry_is_credited(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await asyncio.sleep(10)
        world.kill_registry()
        process.kill()
        await asyncio.sleep(15)
        await world.start_registry()
        await world.held_by(other_than=process)
        assert sum((await world.credits()).values()) >= 14_000

    run(scenario)


# Recovery


async def orphans(world: World, number: int) -> list[str]:
    """Sessions in progress that nobody holds, the last one with the soonest deadline."""
    ids = [f"s{n}" for n in range(number)]
    for n, session_id in enumerate(ids):
        await new_session(world.store, session_id, world.clock(), text_question_timer=1_000 - n)
        process = world.registry.activate(world.starts(await world.state(session_id)))
        assert isinstance(await process, Placement)
    await asyncio.sleep(1)
    world.kill_registry()
    for process in world.alive():
        process.kill()
    return ids


def test_orphans_are_recovered_soonest_deadline_first_and_a_few_at_a_time(run: Run) -> None:
    most = 0

    async def scenario(world: World) -> None:
        nonlocal most
        ids = await orphans(world, 3 * RECOVER_AT_ONCE)
        taken: list[str] = []
        busy: set[str] = set()
        real_append = MemoryStore.append

        async def append(entry: Entry, prev_mac: str) -> Any:
            nonlocal most
            busy.add(entry.session_id)
            most = max(most, len(busy))
            result = await real_append(world.store, entry, prev_mac)
            busy.discard(entry.session_id)
            if '"activated"' in entry.body:
                taken.append(entry.session_id)
            return result

        world.store.slow = 0.3
        world.store.append = append  # type: ignore[method-assign]
        await world.start_registry()
        await asyncio.sleep(120)
        assert sorted(taken) == sorted(ids)
        expected = list(reversed(ids))
        for place, session_id in enumerate(taken):
            assert abs(place - expected.index(session_id)) <= RECOVER_AT_ONCE
        assert {(await world.state(s)).epoch for s in ids} == {2}

    run(scenario, warm=30)
    assert most <= RECOVER_AT_ONCE


def test_a_dry_run_only_says_who_is_held_by_nobody(run: Run) -> None:
    async def scenario(world: World) -> None:
        ids = await orphans(world, RECOVER_AT_ONCE + 2)
        world.store.slow = 1.0
        await world.start_registry()
        await asyncio.sleep(0.5)
        assert await world.registry.recover(dry_run=True) == dict.fromkeys(ids[:2], "held by nobody")
        await asyncio.sleep(60)
        assert await world.registry.recover(dry_run=True) == {}

    run(scenario, warm=12)


def test_recover_says_what_became_of_each(run: Run) -> None:
    async def scenario(world: World) -> None:
        ids = await orphans(world, 2)
        await world.start_registry()
        done = await world.registry.recover(dry_run=False)
        assert isinstance(done, dict)
        assert set(done) <= set(ids) and set(done.values()) <= {"held", "held now"}
        await asyncio.sleep(5)
        assert set((await world.registry.status())["placements"].values()) == set(ids)

    run(scenario)


def test_a_recovery_without_storage_is_tried_until_it_works(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await asyncio.sleep(5)
        world.store.away = True
        process.kill()
        await asyncio.sleep(60)
        assert (await world.state()).epoch == 1
        world.store.away = False
        await world.held_by(other_than=process)
        assert (await world.state()).epoch == 2

    run(scenario)


def test_the_time_until_a_recovery_without_storage_works_is_credited(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await asyncio.sleep(5)
        world.store.away = True
        process.kill()
        await asyncio.sleep(60)
        world.store.away = False
        await world.held_by(other_than=process)
        assert sum((await world.credits()).values()) >= 59_000

    run(scenario)


def test_the_time_until_there_is_a_place_again_is_credited(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await asyncio.sleep(5)
        world.places["node-1"] = 0
        for dead in world.alive():
            dead.kill()
        await asyncio.sleep(70)
        world.places["node-1"] = 10
        await world.held_by(other_than=process)
        state = await world.state()
        assert sum((await world.credits()).values()) >= 69_000 and state.answers == ()

    run(scenario)


def test_the_time_an_actor_hung_is_credited_when_the_first_try_to_take_over_fails(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await asyncio.sleep(5)
        since = world.clock()
        process.stop()
        await asyncio.sleep(20)
        world.store.away = True
        suspicion = asyncio.create_task(world.registry.suspect("s1", process.name, since))
        await asyncio.sleep(5)
        world.store.away = False
        assert await suspicion
        await world.held_by(other_than=process)
        assert sum((await world.credits()).values()) >= 24_000

    run(scenario)


# Owners that the Registry did not appoint


def test_a_session_that_another_live_actor_owns_is_not_taken_away_from_it(run: Run) -> None:
    async def scenario(world: World) -> None:
        old = await world.start()
        warm = next(p for p in world.alive() if p is not old)
        activation = Activation("s1", None, "hung", silent_since=world.clock())
        running = asyncio.create_task(warm.actor.run(activation))
        await warm.actor.activated("s1")
        assert isinstance(await world.send(Answer(0, "late"), process=old), Fenced)
        await asyncio.sleep(5)
        assert old.dead and not running.done()
        assert (await world.registry.status())["placements"] == {warm.name: "s1"}
        assert (await world.state()).epoch == 2

    run(scenario)


def test_the_session_of_a_fenced_actor_is_taken_up_if_its_new_owner_is_dead(run: Run) -> None:
    async def scenario(world: World) -> None:
        old = await world.start()
        warm = next(p for p in world.alive() if p is not old)
        activation = Activation("s1", None, "hung", silent_since=world.clock())
        running = asyncio.create_task(warm.actor.run(activation))
        await warm.actor.activated("s1")
        warm.kill()
        assert isinstance(await world.send(Answer(0, "late"), process=old), Fenced)
        assert (await world.held_by(other_than=warm)) is not old
        assert (await world.state()).epoch == 3
        running.cancel()

    run(scenario)


# Handing over


def test_release_moves_a_session(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await world.send(Consent())
        assert await world.registry.release("s1", "test") is None
        other = await world.held_by(other_than=process)
        state = await world.state()
        assert state.epoch == 2 and process.dead
        assert sum((await world.credits()).values()) <= 1_000
        assert (await world.registry.status())["placements"] == {other.name: "s1"}

    run(scenario)


def test_release_of_a_session_that_nobody_holds_says_so(run: Run) -> None:
    async def scenario(world: World) -> None:
        assert isinstance(await world.registry.release("s1", "test"), NotFound)

    run(scenario)


def test_without_a_place_to_go_a_session_is_not_released(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        assert isinstance(await world.registry.release("s1", "test"), ClusterFull)
        assert (await world.state()).epoch == 1 and not process.dead
        assert isinstance(await world.send(Extend(1, "x")), Reply)

    run(scenario, places={"node-1": 1}, warm=1)


def test_a_release_that_cannot_be_written_keeps_the_session_and_the_replacement(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await asyncio.sleep(5)
        world.store.away = True
        assert isinstance(await world.registry.release("s1", "test"), Retryable)
        world.store.away = False
        await asyncio.sleep(5)
        status = await world.registry.status()
        assert status["placements"] == {process.name: "s1"} and status["warm_actors"] >= 2
        assert await world.registry.release("s1", "test") is None
        await world.held_by(other_than=process)

    run(scenario)


def test_the_replacement_for_an_interview_that_completes_meanwhile_goes_back_to_the_pool(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start(questions=1)
        await asyncio.sleep(5)
        warm = {p.name for p in world.alive()} - {process.name}
        world.store.slow = 0.2
        answer = asyncio.create_task(world.send(Answer(0, "x")))
        await asyncio.sleep(0.1)
        await world.registry.release("s1", "test")
        assert isinstance(await answer, Reply)
        await asyncio.sleep(5)
        assert (await world.state()).status == "completed" and process.dead
        assert {p.name for p in world.alive()} >= warm
        status = await world.registry.status()
        assert status["warm_actors"] == len(world.alive()) and status["live_actors"] == 0

    run(scenario)


def test_a_drain_empties_the_node_and_places_nothing_there(run: Run) -> None:
    async def scenario(world: World) -> None:
        held = [await world.start(f"s{n}") for n in range(6)]
        node = held[0].node
        assert await world.registry.drain(node, True) is None
        await asyncio.sleep(60)
        assert not [p for p in world.alive() if p.node == node]
        placements = (await world.registry.status())["placements"]
        assert sorted(placements.values()) == [f"s{n}" for n in range(6)]
        assert (await world.start("late")).node != node
        assert await world.registry.drain(node, False) is None
        assert (await world.registry.status())["draining"] == {}

    run(scenario, places={"node-1": 20, "node-2": 20}, warm=4)


def test_a_drain_moves_nothing_to_the_very_node(run: Run) -> None:
    async def scenario(world: World) -> None:
        held = [await world.start(f"s{n}") for n in range(4)]
        await asyncio.sleep(10)
        node = held[0].node
        await world.registry.drain(node, True)
        await asyncio.sleep(60)
        moves = [(await world.state(f"s{n}")).epoch for n in range(4)]
        assert moves == [2 if p.node == node else 1 for p in held]

    run(scenario, places={"node-1": 20, "node-2": 20}, warm=8)


def test_a_start_just_after_a_drain_is_placed_elsewhere(run: Run) -> None:
    async def scenario(world: World) -> None:
        await world.registry.drain("node-1", True)
        nodes = {(await world.start(f"s{n}")).node for n in range(3)}
        assert nodes == {"node-2"}

    run(scenario, places={"node-1": 20, "node-2": 20}, warm=4)


def test_a_drain_is_remembered_by_a_new_registry(run: Run) -> None:
    async def scenario(world: World) -> None:
        await world.registry.drain("node-1", True)
        await world.start_registry()
        await asyncio.sleep(5)
        assert (await world.registry.status())["draining"] == {"node-1": 0}
        assert (await world.start()).node == "node-2"

    run(scenario, places={"node-1": 20, "node-2": 20})


def test_a_silent_actor_on_a_node_that_is_drained_is_taken_over(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await asyncio.sleep(5)
        process.stop()
        since = world.clock()
        await world.registry.drain(process.node, True)
        other = await world.held_by(other_than=process)
        assert other.node != process.node and process.dead
        assert 5_000 <= (await world.credits())["hung"] <= world.clock() - since

    run(scenario, places={"node-1": 20, "node-2": 20})


# Sessions that take their actors down


def test_a_session_whose_actors_die_while_they_take_it_is_parked(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await asyncio.sleep(10)
        world.kills_before.add("s1")
        process.kill()
        died = world.clock()
        await asyncio.sleep(20)
        state = await world.state()
        assert state.status_detail == "parked" and state.epoch == 1
        assert state.parked_since is not None and died - 1_000 <= state.parked_since <= died
        dead = [p for p in world.processes if p.dead]
        assert len(dead) <= 4
        assert isinstance(await world.registry.ensure("s1"), NotFound)

    run(scenario)


def test_no_deadline_fires_when_a_session_is_parked(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await world.send(Consent())
        await asyncio.sleep(119)
        world.kills_before.add("s1")
        world.boot_seconds = 3.0
        for warm in world.alive():
            warm.kill()  # those that are to take it up have to be started first
        await asyncio.sleep(30)
        state = await world.state()
        assert process.dead and state.status_detail == "parked"
        assert state.answers == () and state.open is not None

    run(scenario)


def test_a_session_that_kills_after_it_is_taken_is_parked_after_three_activations(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await world.send(Consent())
        await asyncio.sleep(10)
        world.kills_after.add("s1")
        process.kill()
        await asyncio.sleep(30)
        state = await world.state()
        assert state.status_detail == "parked" and state.epoch == 4
        await asyncio.sleep(60)
        assert (await world.state()).epoch == 4

    run(scenario)


def test_a_parked_session_goes_on_when_staff_retry(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await asyncio.sleep(10)
        world.kills_before.add("s1")
        process.kill()
        await asyncio.sleep(20)
        world.kills_before.clear()
        state = await world.state()
        assert state.open is not None and state.parked_since is not None
        left = state.open.remaining_ms(state.parked_since)
        retry = Activation("s1", dump_state(state), "retry", None, None, state.parked_since, retry=True)
        assert isinstance(await world.registry.activate(retry), Placement)
        state = await world.state()
        assert state.status_detail == "question_open" and state.open is not None
        assert state.open.remaining_ms(world.clock()) == left

    run(scenario)


def test_a_start_that_kills_its_actors_is_refused_and_the_session_stays_as_it_is(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.kills_before.add("s1")
        activation = world.starts(await new_session(world.store, at=world.clock()))
        assert isinstance(await world.registry.activate(activation), Retryable)
        assert (await world.state()).status == "initialized"

    run(scenario)


def test_an_actor_that_is_silent_while_it_takes_a_session_is_replaced(run: Run) -> None:
    async def scenario(world: World) -> None:
        for warm in world.alive()[:1]:
            warm.stop()
        started = world.clock()
        await world.start()
        assert world.clock() - started <= 5_000

    run(scenario)


def test_a_session_is_taken_up_while_the_storage_is_slow(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await world.send(Consent())
        await asyncio.sleep(10)
        world.store.slow = 1.6
        process.kill()
        await asyncio.sleep(30)
        state = await world.state()
        assert state.status_detail == "question_open" and state.epoch == 2
        holder = await world.holder()
        assert not holder.dead and (await world.registry.status())["placements"] == {holder.name: "s1"}

    run(scenario, warm=4)


def test_a_session_is_not_parked_because_drafts_cannot_be_saved_for_a_moment(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await world.send(Consent())
        await asyncio.sleep(10)
        world.store.drafts_away = True
        process.kill()
        await asyncio.sleep(5)
        world.store.drafts_away = False
        await asyncio.sleep(10)
        assert (await world.state()).status_detail == "question_open"

    run(scenario)


def test_a_start_whose_reply_was_lost_is_held_again_soon(run: Run) -> None:
    async def scenario(world: World) -> None:
        activation = world.starts(await new_session(world.store, at=world.clock()))
        world.store.faults = ["lost_reply"]
        assert isinstance(await world.registry.activate(activation), OutcomeUnknown)
        placement = await world.registry.ensure("s1")
        assert isinstance(placement, Placement)
        assert isinstance(await world.send(Answer(0, "x")), Reply)

    run(scenario)


def test_a_start_whose_reply_was_lost_is_held_again_by_itself(run: Run) -> None:
    """Its clock runs: nobody knows whether the caller asks again."""

    async def scenario(world: World) -> None:
        activation = world.starts(await new_session(world.store, at=world.clock()))
        world.store.faults = ["lost_reply"]
        assert isinstance(await world.registry.activate(activation), OutcomeUnknown)
        await asyncio.sleep(2)
        assert not (await world.holder()).dead
        state = await world.state()
        assert state.epoch == 2 and state.open is not None
        assert state.open.remaining_ms(world.clock()) >= 118_000 - 100

    run(scenario)


def test_the_time_of_a_start_whose_actor_hangs_once_it_is_written_is_credited(run: Run) -> None:
    async def scenario(world: World) -> None:
        append = world.store.append
        hung: list[Process] = []

        async def append_and_hang(entry: Entry, prev_mac: str) -> Any:
            result = await append(entry, prev_mac)
            if '"activated"' in entry.body and not hung:
                hung.append(next(p for p in world.alive() if p.actor and p.actor._session_id == "s1"))
                hung[0].stop()
            return result

        world.store.append = append_and_hang  # type: ignore[method-assign]
        process = await world.start()
        assert hung and process is not hung[0]
        state = await world.state()
        assert state.epoch == 2 and state.open is not None
        assert state.open.remaining_ms(world.clock()) == pytest.approx(120_000, abs=200)

    run(scenario)


def test_an_actor_that_hung_before_it_took_a_session_does_not_take_it_from_its_owner(run: Run) -> None:
    async def scenario(world: World) -> None:
        first = world.alive()[0]
        first.stop()
        starting = asyncio.create_task(world.start())
        await asyncio.sleep(1)
        first.cut()  # so that its end does not reach it either
        process = await starting
        first.go_on()
        await asyncio.sleep(3)
        assert await world.holder() is process is not first and (await world.state()).epoch == 1

    run(scenario)


def test_an_outage_is_credited_though_the_actor_dies_in_it(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await world.send(Consent())
        await asyncio.sleep(5)
        away_at, world.store.away = world.clock(), True
        await asyncio.sleep(30)
        process.kill()
        await asyncio.sleep(4)
        world.store.away = False
        await world.held_by(other_than=process)
        took = (await world.state()).activated_at - away_at
        assert took - 100 <= (await world.credits())["crash"] <= took + 1_500

    run(scenario)


def test_what_a_registry_saw_itself_is_not_credited_from_the_proof_of_the_one_before(run: Run) -> None:
    """While one interview finds no place, a new Registry does not say that it lives."""

    async def scenario(world: World) -> None:
        process, other = await world.start("s1"), await world.start("s2")
        await world.send(Consent())
        await asyncio.sleep(3)
        world.kill_registry()
        for gone in world.alive():
            if gone is not process:
                gone.kill()
        world.places["node-1"] = 1
        await world.start_registry()
        await asyncio.sleep(60)
        assert await world.holder("s2") is other, "there is no place for it"
        process.kill()
        world.places["node-1"] = 5
        await world.held_by(other_than=process)
        assert (await world.credits())["crash"] <= 3_000

    run(scenario)


@pytest.mark.parametrize("named", [True, False])
def test_an_outage_is_credited_though_a_front_end_has_the_interview_taken_up(run: Run, named: bool) -> None:
    """Its call comes before the supervisor's own next try, when the Registry has said again that it lives."""

    async def scenario(world: World) -> None:
        process = await world.start()
        await world.send(Consent())
        await asyncio.sleep(5)
        away_at, world.store.away = world.clock(), True
        await asyncio.sleep(5)
        process.kill()

        async def ask() -> None:
            while not isinstance(await world.registry.ensure("s1", process.name if named else None), Placement):
                await asyncio.sleep(1)

        await asyncio.sleep(25)
        asking = asyncio.create_task(ask())
        await asyncio.sleep(3.4)
        world.store.away = False
        await world.held_by(other_than=process)
        await asking
        took = (await world.state()).activated_at - away_at
        assert took - 100 <= sum((await world.credits()).values()) <= took + 1_500

    run(scenario)


def test_a_loss_that_no_registry_saw_is_credited_though_a_front_end_names_the_actor(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await world.send(Consent())
        await asyncio.sleep(5)
        world.kill_registry()
        await asyncio.sleep(1)
        died_at = world.clock()
        process.kill()
        await asyncio.sleep(20)
        world.registry = Registry("Registry")
        assert isinstance(await world.registry.ensure("s1", process.name), Placement)
        took = (await world.state()).activated_at - died_at
        assert took <= sum((await world.credits()).values()) <= took + 3_000

    run(scenario)


def test_an_outage_is_credited_though_the_reply_of_the_activation_was_lost_in_it(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await world.send(Consent())
        await asyncio.sleep(5)
        died_at, append = world.clock(), world.store.append

        async def append_and_go(entry: Entry, prev_mac: str) -> Any:
            result = await append(entry, prev_mac)
            if '"activated"' in entry.body:
                world.store.away = True
                raise OutcomeUnknown("lost")
            return result

        world.store.append = append_and_go  # type: ignore[method-assign]
        process.kill()
        await asyncio.sleep(40)
        world.store.append = append  # type: ignore[method-assign]
        world.store.away = False
        await asyncio.sleep(8)
        state = await world.state()
        assert state.epoch == 3
        took = state.activated_at - died_at
        assert took - 100 <= sum((await world.credits()).values()) <= took + 1_500

    run(scenario)


def test_an_actor_that_can_be_reached_again_keeps_its_session_though_there_is_no_place_for_another(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await world.send(Consent())
        await asyncio.sleep(20)
        process.cut()
        await asyncio.sleep(3)
        process.mend()
        await asyncio.sleep(65)
        assert (await world.registry.status())["placements"] == {process.name: "s1"}
        world.places["node-1"] += 1
        await asyncio.sleep(300)
        assert not process.dead and await world.holder() is process and await world.credits() == {}

    run(scenario, places={"node-1": 1}, warm=1)


def test_a_start_that_no_majority_has_confirmed_yet_is_held_again(run: Run) -> None:
    async def scenario(world: World) -> None:
        activation = world.starts(await new_session(world.store, at=world.clock()))
        load = world.store.load

        async def load_what_is_confirmed(session_id: str) -> Loaded | None:
            loaded = await load(session_id)
            return replace(loaded, entries=loaded.entries[:1]) if loaded is not None else None

        world.store.faults, world.store.load = ["lost_reply"], load_what_is_confirmed  # type: ignore[method-assign]
        assert isinstance(await world.registry.activate(activation), OutcomeUnknown)
        await asyncio.sleep(2)
        world.store.load = load  # type: ignore[method-assign]
        await asyncio.sleep(6)
        assert not (await world.holder()).dead
        state = await world.state()
        assert state.epoch == 2 and state.open is not None
        assert state.open.remaining_ms(world.clock()) >= 113_000

    run(scenario)


def test_a_session_lost_again_is_taken_up_at_once_though_the_last_try_for_it_waits(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await asyncio.sleep(20)
        world.store.away = True
        process.kill()
        await asyncio.sleep(9)
        world.store.away = False
        assert isinstance(await world.registry.ensure("s1", process.name), Placement)
        second = await world.holder()
        await asyncio.sleep(0.05)
        assert await world.registry.release("s1", "drain") is None
        released_at = world.clock()
        while (await world.state()).actor in (None, second.name):
            await asyncio.sleep(0.01)
        assert world.clock() - released_at < 200

    run(scenario)


def test_a_start_that_may_have_happened_is_held_again_when_there_is_a_place(run: Run) -> None:
    async def scenario(world: World) -> None:
        activation = world.starts(await new_session(world.store, at=world.clock()))
        world.kills_after.add("s1")
        world.places["node-1"] = 0
        for spare in world.alive()[1:]:
            spare.kill()
        assert isinstance(await world.registry.activate(activation), ClusterFull)
        world.kills_after.clear()
        await asyncio.sleep(30)
        assert (await world.state()).epoch == 1
        world.places["node-1"] = 10
        await asyncio.sleep(10)
        assert not (await world.holder()).dead
        state = await world.state()
        assert state.open is not None and state.open.remaining_ms(world.clock()) >= 110_000

    run(scenario)


def test_a_start_without_a_free_place_is_refused_at_once(run: Run) -> None:
    async def scenario(world: World) -> None:
        for n in range(3):
            await world.start(f"s{n}")
            await asyncio.sleep(3)
        began = world.clock()
        activation = world.starts(await new_session(world.store, "late", at=world.clock()))
        assert isinstance(await world.registry.activate(activation), ClusterFull)
        assert world.clock() - began < 500

    run(scenario, places={"node-1": 3}, warm=1)


def test_an_actor_that_does_not_answer_is_passed_over_when_a_session_is_taken_up(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        await asyncio.sleep(5)
        silent = next(p for p in world.alive() if p is not process)
        silent.stop()
        process.kill()
        await world.held_by(other_than=process, seconds=6)
        assert (await world.state()).epoch == 2

    run(scenario)


# All of it together


class FrontEnd:
    """Answers as a candidate and a front end do: the same answer again until it is known to be durable."""

    def __init__(self, world: World, random: Random) -> None:
        self.world, self.random = world, random
        self.acknowledged: dict[str, list[str]] = {}
        self.holders: dict[str, str] = {}

    async def interview(self, session_id: str) -> None:
        answers = self.acknowledged.setdefault(session_id, [])
        while True:
            await asyncio.sleep(self.random.uniform(0.5, 15))
            text = f"{session_id}/{len(answers)}"
            while not await self.answer(session_id, len(answers), text):
                await asyncio.sleep(0.2)
            answers.append(text)

    async def answer(self, session_id: str, index: int, text: str) -> bool:
        world, since = self.world, self.world.clock()
        request = Request(Answer(index, text), CANDIDATE, since, text)
        name = self.holders.pop(session_id, None)
        try:
            if name is None:
                loaded = await world.store.load(session_id)
                name = state_of(loaded).actor if loaded is not None else None
            process = await cluster.find(name) if name is not None else None
            if process is None or name is None:
                await asyncio.wait_for(world.registry.ensure(session_id, name), 3.0)
                return False
            reply = await cluster.call(
                process, "execute", session_id, request, label="interview s1: answer", timeout=2.0
            )
            self.holders[session_id] = name
            return isinstance(reply, Reply)
        except cluster.ActorGone:
            await asyncio.wait_for(world.registry.ensure(session_id, name), 3.0)
        except cluster.ActorSilent:
            assert name is not None
            await asyncio.wait_for(world.registry.suspect(session_id, name, since), 10.0)
        except (OutcomeUnknown, Unavailable):
            if name is not None:
                self.holders[session_id] = name
        except (Retryable, TimeoutError):
            pass
        return False


async def fault(world: World, random: Random) -> None:
    """One fault, and its end."""
    victim = random.choice(world.alive())
    match random.randrange(7):
        case 0:
            victim.kill()
        case 1:
            victim.stop()
            await asyncio.sleep(random.uniform(0.5, 20))
            victim.go_on() if victim.actor is not None else None
        case 2:
            victim.cut()
            await asyncio.sleep(random.uniform(0.5, 20))
            victim.mend()
        case 3:
            world.store.away = True
            await asyncio.sleep(random.uniform(0.5, 20))
            world.store.away = False
        case 4:
            world.store.faults = [random.choice(["away", "lost_reply"]) for _ in range(random.randrange(1, 4))]
        case 5:
            world.kill_registry()
            await asyncio.sleep(random.uniform(0.1, 5))
            await world.start_registry()
        case 6:
            await world.registry.drain(victim.node, True)
            await asyncio.sleep(random.uniform(1, 20))
            await world.registry.drain(victim.node, False)


@pytest.mark.parametrize("seed", range(4))
def test_after_random_faults_every_interview_is_held_once_and_no_answer_is_lost(run: Run, seed: int) -> None:
    async def scenario(world: World) -> None:
        random = Random(seed)
        front_end, ids = FrontEnd(world, random), [f"s{n}" for n in range(6)]
        for session_id in ids:
            await world.start(session_id, questions=200)
        working = [asyncio.create_task(front_end.interview(session_id)) for session_id in ids]
        for _ in range(15):
            await asyncio.sleep(random.uniform(0, 15))
            await fault(world, random)
        await asyncio.sleep(60)
        assert not any(task.done() for task in working)
        for task in working:
            task.cancel()
        await asyncio.sleep(30)
        status = await world.registry.status()
        assert sorted(status["placements"].values()) == ids
        assert len(world.alive()) == status["live_actors"] + status["warm_actors"] + status["starting_actors"]
        for session_id in ids:
            state = await world.state(session_id)
            assert state.status_detail == "question_open"
            assert status["placements"].get(state.actor) == session_id
            stored = [a.answer for a in state.answers]
            acknowledged = front_end.acknowledged[session_id]
            assert stored[: len(acknowledged)] == acknowledged and len(acknowledged) > 5

    run(scenario, places={"node-1": 20, "node-2": 20}, warm=4)


# Commands of others


def test_end_ends_the_actor_of_a_session_that_somebody_else_completed(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        session = await Session.load(world.store, "s1")
        await session.execute(Request(End(), STAFF, world.clock()), world.clock())
        await world.registry.end("s1")
        await asyncio.sleep(15)
        assert process.dead and (await world.state()).epoch == 1
        assert (await world.registry.status())["live_actors"] == 0

    run(scenario)


# The size of the cluster


def test_refused_starts_are_asked_for_and_served_once_there_is_room(run: Run) -> None:
    async def scenario(world: World) -> None:
        refused = []
        for number in range(5):
            state = await new_session(world.store, f"r{number}", world.clock())
            placement = await world.registry.activate(world.starts(state))
            refused += [state] if isinstance(placement, ClusterFull) else []
        assert len(refused) >= 3
        await asyncio.sleep(10)
        assert world.requests[-1] == 5 + 2, "live, refused, and the pool's"
        world.places["node-2"] = 10
        await asyncio.sleep(10)
        for state in refused:
            assert isinstance(await world.registry.activate(world.starts(state)), Placement)
        await asyncio.sleep(120)
        assert world.requests[-1] == 0, "what is there is enough"
        assert (await world.registry.status())["warm_actors"] == 2

    run(scenario, places={"node-1": 2})


def test_the_pool_grows_for_scheduled_starts_and_shrinks_when_nobody_came(run: Run) -> None:
    async def scenario(world: World) -> None:
        for number in range(6):
            await new_session(world.store, f"s{number}", world.clock(), scheduled_at=world.clock() + 600_000)
        await asyncio.sleep(250)
        assert (await world.registry.status())["warm_actors"] == 2
        await asyncio.sleep(100)
        assert (await world.registry.status())["warm_actors"] == 8
        await asyncio.sleep(600)
        assert (await world.registry.status())["warm_actors"] == 2

    run(scenario)


def test_an_idle_node_is_emptied_and_a_live_interview_is_left_where_it_is(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        idle = next(node for node in world.places if node != process.node)
        await asyncio.sleep(120)
        assert world.journals_ended == {idle}
        assert {p.node for p in world.alive()} == {process.node}
        assert (await world.state()).epoch == 1
        for number in range(12):
            await world.start(f"more{number}")
        assert {p.node for p in world.alive()} == set(world.places), "the node is used again"

    run(scenario, places={"node-1": 10, "node-2": 10}, idle_node_seconds=30)


def test_a_node_that_ray_is_about_to_end_is_emptied(run: Run) -> None:
    async def scenario(world: World) -> None:
        process = await world.start()
        world.ending.add(process.node)
        new = await world.held_by(other_than=process)
        assert new.node != process.node and (await world.state()).epoch == 2

    run(scenario, places={"node-1": 10, "node-2": 10})


def test_what_scaling_asks_of_ray_may_fail_and_holds_nothing_else_up(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.scaling_breaks = True
        live = await world.start()
        await asyncio.sleep(10)
        warm = [process for process in world.alive() if process is not live]
        assert len(warm) == 2
        for process in warm:
            process.kill_if_reached()
        await asyncio.sleep(30)
        assert len([process for process in world.alive() if process is not live]) == 2, "the pool is full again"

    run(scenario)


@pytest.mark.parametrize(
    ("waiting", "more", "expected"),
    [(20, {}, 6), (20, {"idle_node_seconds": 600.0}, 6), (2, {"idle_node_seconds": 600.0}, 2)],
)
def test_so_many_actors_start_at_a_time_on_each_node(
    run: Run, monkeypatch: pytest.MonkeyPatch, waiting: int, more: dict[str, float], expected: int
) -> None:
    async def scenario(world: World) -> None:
        began = len(world.processes)
        states = [await new_session(world.store, f"s{number}", world.clock()) for number in range(waiting)]
        starts = asyncio.gather(*(world.registry.activate(world.starts(state)) for state in states))
        await asyncio.sleep(0.5)
        assert len(world.processes) - began == expected
        assert {process.spread for process in world.processes[began:]} == {expected == 6}
        assert all(isinstance(placement, Placement) for placement in await starts)

    monkeypatch.setattr("actors.registry.os.cpu_count", lambda: 2)
    run(scenario, places=dict.fromkeys(("node-1", "node-2", "node-3"), 20), warm=0, start_wait_seconds=60.0, **more)
