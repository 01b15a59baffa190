"""What limits 1,000, 10,000 and 100,000 live interviews: a simulation from measured costs. Seconds; nothing is started.

    python benchmarks/scale.py
    python benchmarks/scale.py --interviews 5000 --set starts_per_node=8 --set warm_ahead_s=600

UNITS has each figure and where it comes from; `--set` replaces one. Three parts:

* sums: what is used while interviews run, against what each part can do;
* the start of a day, event by event: everybody who is scheduled for nine o'clock begins within two minutes. The
  Registry handles one call after another; who finds no warm actor waits for one, gets 503, and comes again;
* the death of a node, event by event: its interviews are seen to be lost, and each needs an actor elsewhere.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

SIZES = (1_000, 10_000, 100_000)


@dataclass(frozen=True)
class Unit:
    """One figure: its value, what it is, and where it comes from."""

    value: float
    what: str
    source: str


NODE = "benchmarks/node.py, 2 cores"
UNITS: dict[str, Unit] = {
    # one interview
    "idle_ms_s": Unit(2.4, "ms of processor time a second of an interview's process that waits", NODE),
    "interview_mb": Unit(54, "MiB of memory of an interview's process", NODE),
    "answers_min": Unit(0.5, "answers a minute of one interview", "a question of two minutes"),
    "drafts_min": Unit(6, "drafts a minute of one interview", "the page saves at most every 10 s while typing"),
    # one answer
    "answer_node_ms": Unit(8.7, "ms of a node's processor time for an answer: the actor and the JournalActor", NODE),
    "answer_front_ms": Unit(2.7, "ms of a front end's processor time for an answer", NODE),
    "draft_share": Unit(0.5, "what a draft costs of that", "one call and one write less than an answer"),
    "answer_writes": Unit(2, "documents written for an answer: the entry and the snapshot", "how it is built"),
    # a start
    "start_cpu_s": Unit(0.8, "s until a new actor is up where cores are free", "0.25 to 0.8 s were measured"),
    "registry_start_ms": Unit(8, "ms of the Registry's time for a start", NODE),
    "starts_per_node": Unit(4, "actors that are started at a time on each node", "actors/registry.py"),
    "starts_at_most": Unit(32, "actors that are started at a time, in the whole cluster", "actors/registry.py"),
    "warm_actors": Unit(8, "INTERVIEW_WARM_ACTORS", "deploy/cluster.env.example"),
    "warm_ahead_s": Unit(300, "INTERVIEW_WARM_AHEAD_SECONDS: when the pool begins to grow", "its default"),
    "start_wait_s": Unit(8, "INTERVIEW_START_WAIT_SECONDS", "its default"),
    "retry_s": Unit(5, "Retry-After of a start that found no place", "actors/pool.py"),
    "patience_s": Unit(120, "s after which a candidate tries no more", "assumed"),
    "burst_s": Unit(120, "s within which everybody begins", "candidates come within two minutes"),
    # a node
    "cores": Unit(4, "cores of a node", "ray_cluster.yaml"),
    "places": Unit(200, "interviews that a node holds at most", "ray_cluster.yaml"),
    "memory_mb": Unit(13_312, "MiB that a node declares", "ray_cluster.yaml"),
    "busy_share": Unit(0.6, "how busy a node may be while nothing is started", "starts and hand-overs need time too"),
    "detect_s": Unit(12.9, "s until a node that hangs is taken for dead", "tests/chaos/test_cluster_file.py"),
    "resume_ms": Unit(65, "ms from an actor that is ready to the next answer", "docs/fault_injection.md"),
    # what there is once
    "gcs_actors": Unit(10_000, "actors that Ray's control plane is tried with", "Ray's own benchmarks: 10k+"),
    "ray_nodes": Unit(250, "nodes that Ray is tried with", "Ray's own benchmarks: 250+"),
    "registry_warm_ms_s": Unit(0.83, "ms of the Registry's time a second for each warm actor, which it pings", NODE),
    "registry_pings_s": Unit(50, "warm actors that the Registry pings a second at most", "actors/pool.py"),
    "gcs_ms_s": Unit(0.2, "ms of Ray's control plane a second for each actor", NODE),
    "head_cores": Unit(2, "cores of the head", "ray_cluster.yaml"),
    "mongo_writes_s": Unit(5_000, "majority writes a second of one replica set", "assumed: measure yours"),
    "mongo_connections": Unit(10, "connections of a JournalActor or a front end", "as many as calls overlap"),
    # front ends
    "front_busy_share": Unit(0.6, "how busy a front end process may be", "p99 grows beyond"),
    "presence_s": Unit(5, "s between two notes of a candidate's presence", "actors/channels.py"),
    "presence_ms": Unit(0.7, "ms of a front end's time for one", "a Ray call: 1,500 a second from a process"),
    "channel_ms_s": Unit(0.3, "ms of a front end's time a second for an open channel", "docs/live_channel.md"),
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """The figures by name, as attributes."""

    values: dict[str, float]

    def __getattr__(self, name: str) -> float:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None

    def with_(self, **changed: float) -> Model:
        unknown = changed.keys() - self.values.keys()
        if unknown:
            raise KeyError(f"no such figure: {', '.join(sorted(unknown))}")
        return replace(self, values=self.values | changed)


def model() -> Model:
    return Model({name: unit.value for name, unit in UNITS.items()})


class Clock:
    """Events in the order of their times (s)."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(time, self.now), next(self._numbers), event))

    def run(self) -> None:
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()


class Pool:
    """Warm actors, and those that are being started: `at_once` at a time, each for `seconds`."""

    def __init__(self, clock: Clock, warm: int, at_once: int, seconds: float) -> None:
        self.warm = warm
        self.started = 0
        self._clock, self._at_once, self._seconds = clock, at_once, seconds
        self._starting = 0
        self._waiters = 0
        self._waiting: deque[list[Any]] = deque()
        """Each with what is called once there is an actor; empty if it has given up."""

    def take(self, got: Callable[[], None], gave_up: Callable[[], None], wait: float) -> None:
        """Calls `got` with an actor, at once or later, or `gave_up` after the wait. Exactly one of them, once."""
        if self.warm:
            self.warm -= 1
            got()
            return
        entry: list[Any] = [got]
        self._waiting.append(entry)
        self._waiters += 1
        self._clock.at(self._clock.now + wait, lambda: self._give_up(entry, gave_up))
        self._start()

    def grow_to(self, wanted: int) -> None:
        """Start until so many are ready; used before anybody comes."""
        while self.warm + self._starting < wanted and self._starting < self._at_once:
            self._begin(lambda: self.grow_to(wanted))

    def _give_up(self, entry: list[Any], gave_up: Callable[[], None]) -> None:
        if entry:
            entry.clear()
            self._waiters -= 1
            gave_up()

    def _start(self) -> None:
        while self._starting < self._at_once and self._starting < self._waiters:
            self._begin(lambda: None)

    def _begin(self, then: Callable[[], None]) -> None:
        self._starting += 1

        def up() -> None:
            self._starting -= 1
            self.started += 1
            while self._waiting and not self._waiting[0]:
                self._waiting.popleft()
            if self._waiting:
                entry = self._waiting.popleft()
                got = entry.pop()
                self._waiters -= 1
                got()
            else:
                self.warm += 1
            then()
            self._start()

        self._clock.at(self._clock.now + self._seconds, up)


@dataclass(frozen=True)
class Waits:
    """What those who waited have seen: seconds of those who were served, sorted; answers that said 503."""

    seconds: list[float]
    refusals: int = 0
    gave_up: int = 0

    def at(self, share: float) -> float:
        return self.seconds[min(len(self.seconds) - 1, math.ceil(share * len(self.seconds)) - 1)]


def nodes_for(interviews: int, m: Model) -> int:
    """Nodes by places, memory and processor time, whichever asks for most; and one that may die."""
    busy = m.idle_ms_s + (m.answers_min + m.drafts_min * m.draft_share) / 60 * m.answer_node_ms
    by_cpu = interviews * busy / 1000 / (m.cores * m.busy_share)
    by_memory = interviews * m.interview_mb / m.memory_mb
    return math.ceil(max(by_cpu, by_memory, interviews / m.places)) + 1


def start_seconds(m: Model, nodes: int) -> float:
    """How long an actor takes to come up, while those that are started with it share the cores that are free for it."""
    free = nodes * m.cores * (1 - m.busy_share)
    return m.start_cpu_s * max(1.0, starts_at_once(m, nodes) / free)


def starts_at_once(m: Model, nodes: int) -> int:
    """Actors that are started at a time; one node may be away."""
    return int(min(m.starts_per_node * max(1, nodes - 1), m.starts_at_most))


def nine_o_clock(interviews: int, m: Model, seed: int = 1) -> Waits:
    """How long each start takes that is asked for within `burst_s`, refusals and their repetition included."""
    clock, chance, nodes = Clock(), random.Random(seed), nodes_for(interviews, m)
    pool = Pool(clock, int(m.warm_actors), starts_at_once(m, nodes), start_seconds(m, nodes))
    clock.at(0, lambda: pool.grow_to(interviews + int(m.warm_actors)) if m.warm_ahead_s else None)
    took: list[float] = []
    refused = gave_up = 0
    registry_free = 0.0

    def ask(came: float) -> None:
        nonlocal registry_free
        registry_free = max(registry_free, clock.now) + m.registry_start_ms / 1000
        clock.at(registry_free, lambda: take(came))

    def take(came: float) -> None:
        pool.take(lambda: took.append(clock.now - came), lambda: refuse(came), m.start_wait_s)

    def refuse(came: float) -> None:
        nonlocal refused, gave_up
        refused += 1
        if clock.now - came > m.patience_s:
            gave_up += 1
            return
        clock.at(clock.now + m.retry_s * chance.uniform(1.0, 1.5), lambda: ask(came))

    for _ in range(interviews):
        came = m.warm_ahead_s + chance.uniform(0, m.burst_s)
        clock.at(came, lambda came=came: ask(came))
    clock.run()
    return Waits(sorted(took), refused, gave_up)


def node_death(interviews: int, m: Model) -> Waits:
    """How long the interviews of one node stand still when it hangs: from its last sign of life."""
    nodes = nodes_for(interviews, m)
    lost = min(interviews, math.ceil(interviews / (nodes - 1)))
    clock = Clock()
    pool = Pool(clock, int(m.warm_actors), starts_at_once(m, nodes), start_seconds(m, nodes))
    took: list[float] = []
    registry_free = m.detect_s

    def taken_up() -> None:
        took.append(clock.now + m.resume_ms / 1000)

    for _ in range(lost):
        registry_free += m.registry_start_ms / 1000
        clock.at(registry_free, lambda: pool.take(taken_up, lambda: None, math.inf))
    clock.run()
    return Waits(sorted(took))


@dataclass(frozen=True)
class Load:
    """How much of one part is used, and what helps when it is not enough."""

    part: str
    used: float
    can: float
    unit: str
    remedy: str

    @property
    def share(self) -> float:
        return self.used / self.can


def loads(interviews: int, m: Model) -> list[Load]:
    """What there is once, or does not simply become more with more machines."""
    nodes, fronts = nodes_for(interviews, m), front_ends_for(interviews, m)
    actors = interviews + m.warm_actors + nodes + 3
    split = "several clusters, each with a database of its own; a session needs only its own"
    pinged = min(warm_at_nine(interviews, m), m.registry_pings_s)
    registry = pinged * m.registry_warm_ms_s + interviews / m.burst_s * m.registry_start_ms
    ahead = "INTERVIEW_WARM_AHEAD_SECONDS so long that all are ready, or starts spread over time"
    writes = writes_per_second(interviews, m, nodes, fronts)
    return [
        Load("actors to start", interviews / m.burst_s, start_rate(interviews, m), "a second at nine", ahead),
        Load("Registry", registry / 1000, 1, "cores at nine", split),
        Load("Ray's control plane", actors * m.gcs_ms_s / 1000, m.head_cores, "cores", f"a larger head, or {split}"),
        Load("actors in Ray's control plane", actors, m.gcs_actors, "", split),
        Load("nodes in Ray's control plane", nodes, m.ray_nodes, "", f"larger nodes, or {split}"),
        Load("writes to MongoDB", writes, m.mongo_writes_s, "a second", f"sharding by session_id, or {split}"),
    ]


def start_rate(interviews: int, m: Model) -> float:
    """Starts a second that the cluster can serve within the burst, with what was made ready before it."""
    rate = lasting_rate(interviews, m)
    return rate + (m.warm_actors + rate * m.warm_ahead_s) / m.burst_s


def lasting_rate(interviews: int, m: Model) -> float:
    """Actors a second that can be started for long: by the nodes, and by the Registry, which creates each of them."""
    nodes = nodes_for(interviews, m)
    return min(starts_at_once(m, nodes) / start_seconds(m, nodes), 1000 / m.registry_start_ms)


def warm_at_nine(interviews: int, m: Model) -> float:
    """Actors that are ready then."""
    return min(interviews + m.warm_actors, m.warm_actors + lasting_rate(interviews, m) * m.warm_ahead_s)


def writes_per_hour(m: Model) -> float:
    """Documents that one interview writes in an hour."""
    return 60 * (m.answers_min * m.answer_writes + m.drafts_min)


def writes_per_second(interviews: int, m: Model, nodes: int, fronts: int) -> float:
    """Of all interviews, and the proofs of life of nodes and front ends."""
    return interviews * writes_per_hour(m) / 3600 + nodes + fronts


def front_ends_for(interviews: int, m: Model) -> int:
    """Front end processes; with one that may die."""
    answers = (m.answers_min + m.drafts_min * m.draft_share) / 60
    busy = answers * m.answer_front_ms + m.channel_ms_s + m.presence_ms / m.presence_s
    return math.ceil(interviews * busy / 1000 / m.front_busy_share) + 1


def first_limit(interviews: int, m: Model) -> Load:
    return max(loads(interviews, m), key=lambda load: load.share)


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def show(sizes: tuple[int, ...], m: Model) -> str:
    """Everything as tables in Markdown."""
    lines = ["| | " + " | ".join(f"{size:,}" for size in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]

    def row(name: str, cell: Callable[[int], str]) -> None:
        lines.append(f"| {name} | " + " | ".join(map(cell, sizes)) + " |")

    row(f"nodes ({m.cores:g} cores, {m.places:g} places), one to spare", lambda n: f"{nodes_for(n, m):,}")
    row("front end processes, one to spare", lambda n: f"{front_ends_for(n, m):,}")
    connections = lambda n: (nodes_for(n, m) + front_ends_for(n, m) + 2) * m.mongo_connections  # noqa: E731
    row("connections to MongoDB, about", lambda n: f"{connections(n):,.0f}")
    row("journal writes a second of one node", lambda n: f"{n * writes_per_hour(m) / 3600 / nodes_for(n, m):.1f}")
    for number, load in enumerate(loads(1, m)):

        def cell(n: int, number: int = number) -> str:
            one = loads(n, m)[number]
            return f"{figure(one.used)} of {figure(one.can)} ({one.share:.0%})"

        row(f"{load.part} {load.unit}".strip(), cell)
    nine = {n: nine_o_clock(n, m) for n in sizes}
    row("nine o'clock: a start takes, p50 / p99", lambda n: f"{nine[n].at(0.5):.2f} / {nine[n].at(0.99):,.0f} s")
    row("nine o'clock: 503 with Retry-After; who gave up", lambda n: f"{nine[n].refusals:,}; {nine[n].gave_up:,}")
    death = {n: node_death(n, m) for n in sizes}
    row("a node hangs: interviews on it", lambda n: f"{len(death[n].seconds)}")
    row("a node hangs: they stand still, p50 / longest", lambda n: f"{death[n].at(0.5):.0f} / {death[n].at(1):.0f} s")
    row("**first limit**", lambda n: f"{first_limit(n, m).part} ({first_limit(n, m).share:.0%})")
    lines.append("")
    for size in sizes:
        over = [load for load in loads(size, m) if load.share > 1]
        for load in over:
            lines.append(f"* {size:,}: {load.part}: {load.remedy}.")
        if not over:
            lines.append(f"* {size:,}: nothing is over its limit.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interviews", type=int, action="append", help="a size; may be given more than once")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another value for a figure")
    parser.add_argument("--units", action="store_true", help="show the figures and where they come from")
    options = parser.parse_args()
    if options.units:
        print("\n".join(f"| {name} | {u.value:g} | {u.what} | {u.source} |" for name, u in UNITS.items()))
        return
    pairs = [pair.partition("=") for pair in options.set]
    try:
        changed = model().with_(**{name: float(value) for name, _, value in pairs})
    except (KeyError, ValueError) as error:
        parser.error(str(error.args[0]))
    print(show(tuple(options.interviews or SIZES), changed))


if __name__ == "__main__":
    main()
