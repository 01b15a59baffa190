"""The simulation of what limits many interviews: what must hold whatever the figures are."""

from __future__ import annotations

import pytest

from benchmarks.scale import (
    SIZES,
    Clock,
    Pool,
    first_limit,
    front_ends_for,
    loads,
    main,
    model,
    nine_o_clock,
    node_death,
    nodes_for,
)
from orchestrator.settings import Settings

FIGURES = model()
QUICK = FIGURES.with_(burst_s=20, warm_ahead_s=10, patience_s=30)


@pytest.mark.parametrize("interviews", [1, 50, 700])
def test_everybody_is_served_or_gives_up_and_nobody_twice(interviews: int) -> None:
    waits = nine_o_clock(interviews, QUICK)
    assert len(waits.seconds) + waits.gave_up == interviews
    assert waits.seconds == sorted(waits.seconds) and waits.seconds[0] >= 0


def test_who_finds_a_warm_actor_waits_for_the_registry_only() -> None:
    waits = nine_o_clock(100, QUICK.with_(warm_actors=200))
    assert waits.refusals == 0 and waits.at(1) < 100 * QUICK.registry_start_ms / 1000


def test_more_starts_at_once_or_a_longer_run_up_never_make_it_worse() -> None:
    few = QUICK.with_(starts_per_node=1)
    slow = nine_o_clock(700, few)
    for better in ({"starts_per_node": 2}, {"warm_ahead_s": 120}):
        faster = nine_o_clock(700, few.with_(**better))
        assert faster.gave_up <= slow.gave_up and faster.refusals < slow.refusals


def test_every_interview_of_a_dead_node_is_taken_up_after_it_was_noticed() -> None:
    waits = node_death(1_000, FIGURES)
    assert len(waits.seconds) == -(-1_000 // (nodes_for(1_000, FIGURES) - 1))
    assert waits.seconds[0] > FIGURES.detect_s
    reserve = node_death(1_000, FIGURES.with_(warm_actors=500))
    assert reserve.at(1) < waits.at(1)


def test_nothing_starts_more_actors_at_a_time_than_may_be() -> None:
    clock = Clock()
    pool = Pool(clock, warm=1, at_once=2, seconds=1.0)
    served: list[float] = []
    left: list[float] = []
    for _ in range(6):
        pool.take(lambda: served.append(clock.now), lambda: left.append(clock.now), wait=2.5)
    clock.run()
    assert served == [0, 1, 1, 2, 2] and left == [2.5]


def test_larger_is_more_of_everything() -> None:
    for part in range(len(loads(1, FIGURES))):
        shares = [loads(size, FIGURES)[part].used for size in SIZES]
        assert shares == sorted(shares)
    assert [nodes_for(size, FIGURES) for size in SIZES] == sorted(nodes_for(size, FIGURES) for size in SIZES)
    assert front_ends_for(SIZES[0], FIGURES) < front_ends_for(SIZES[-1], FIGURES)


def test_nodes_have_room_for_their_interviews() -> None:
    for size in SIZES:
        nodes = nodes_for(size, FIGURES) - 1  # one may be away
        assert size <= nodes * FIGURES.places and size * FIGURES.interview_mb <= nodes * FIGURES.memory_mb


def test_what_is_used_most_is_the_first_limit() -> None:
    limit = first_limit(10_000, FIGURES.with_(gcs_actors=10))
    assert limit.part == "actors in Ray's control plane"


def test_defaults_that_it_names_are_the_defaults() -> None:
    of = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
    assert (FIGURES.warm_ahead_s, FIGURES.start_wait_s) == (of.warm_ahead_seconds, of.start_wait_seconds)


def test_a_figure_that_does_not_exist_is_refused() -> None:
    with pytest.raises(KeyError, match="no such figure: speed"):
        FIGURES.with_(speed=1)


def test_it_prints_its_tables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["scale.py", "--interviews", "200", "--set", "burst_s=30"])
    main()
    shown = capsys.readouterr().out
    assert "**first limit**" in shown and "| 200 |" in shown
