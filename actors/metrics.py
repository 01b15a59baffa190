"""Every figure that Ray's dashboard and Prometheus get of us, declared in one table.

Prometheus sees `ray_` before each name. Who reports: Registry, Housekeeper, JournalActors, FaceActors and front ends.
Interview actors report nothing: a process each, they would leave a set of series behind each, for as long as their
node's agent runs. What happens in them is seen where it becomes durable: by the JournalActor of their node.

No label carries an id of a session, a candidate or an actor.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from actors import cluster
from orchestrator.errors import OrchestratorError, Retryable

Kind = Literal["counter", "gauge", "histogram"]

TICK_SECONDS = 1.0
"""Ray forgets a gauge that is not set again within two of its intervals."""
LAG_TICKS = 15
"""Ticks of which the longest lag is shown, so that no scrape misses it."""

QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SLOW = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure. `zero`: label values that a counter has from the start, so that its first event is an increase.

    `name` is as Prometheus has it, without `ray_`; Ray adds nothing to one that ends in `_total`. `buckets`: upper
    bounds, in the name's unit; Ray keeps counts in them only, so that sums (and averages) are as coarse as they are.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    zero: tuple[str, ...] = ()


ALL: list[Metric] = []
"""The table."""


def _metric(
    kind: Kind, name: str, help: str, *labels: str, buckets: tuple[float, ...] = (), zero: tuple[str, ...] = ()
) -> Metric:
    metric = Metric(f"interview_{name}", kind, help, labels, buckets, zero)
    ALL.append(metric)
    return metric


# The Registry's
ACTORS = _metric("gauge", "actors", "Interview actors: live, warm or starting.", "state")
PLACES_FREE = _metric("gauge", "places_free", "Interview actors that could be started besides.")
ACTORS_WANTED = _metric("gauge", "actors_wanted", "Live and warm actors that are wanted.")
PLACES_MISSING = _metric("gauge", "places_missing", "Interviews for which the cluster has no place.")
WAITING = _metric("gauge", "waiting", "Interviews that wait for an actor.")
REFUSED_STARTS = _metric("counter", "refused_starts_total", "Starts refused for want of a place.")
ACTIVATION = _metric(
    "histogram",
    "activation_seconds",
    "From the request for an actor until it holds the interview, by what caused it.",
    "source",
    buckets=SLOW,
)
DEACTIVATIONS = _metric(
    "counter",
    "deactivations_total",
    "Interviews that their actor has let go, by reason.",
    "reason",
    zero=("completed", "crash", "hung", "released", "fenced"),
)

# The Housekeeper's
SESSIONS = _metric("gauge", "sessions", "Stored sessions, by status.", "status")
PARKED = _metric("gauge", "parked_sessions", "Sessions whose activation was given up.")
REGISTRY_UP = _metric("gauge", "registry_up", "Whether the Registry answers the Housekeeper: 1 or 0.")
FALLBACK = _metric(
    "counter", "livekit_fallback_seconds_total", "Time in which LiveKit is configured and cannot be used."
)
STILL_BACKLOG = _metric("gauge", "still_backlog", "Stills that nobody has looked at yet.")
WEBHOOK_AGE = _metric("gauge", "webhook_oldest_seconds", "Age of the oldest webhook message not yet delivered.")
WEBHOOKS_UNDER_WAY = _metric("gauge", "webhooks_under_way", "Webhook messages that are being sent.")
WEBHOOK_ATTEMPTS = _metric("counter", "webhook_attempts_total", "Tries to send a webhook.", "outcome")

# The JournalActors'
APPEND = _metric(
    "histogram",
    "journal_append_seconds",
    "From the arrival of an entry until it is known what became of it.",
    "outcome",
    buckets=QUICK,
)
BATCH = _metric("histogram", "journal_batch_entries", "Entries that were written together.", buckets=SIZES)
FENCED_WRITES = _metric(
    "counter", "fenced_writes_total", "Writes of a replaced owner that the journal refused.", zero=("",)
)
LATENESS = _metric(
    "histogram", "timer_lateness_seconds", "How late questions whose time ran out were closed.", buckets=SLOW
)
CREDITED = _metric(
    "counter",
    "credited_seconds_total",
    "Time given back to candidates, by cause.",
    "cause",
    zero=("crash", "storage_unavailable", "network"),
)

# The FaceActors'
STILLS_CHECKED = _metric("counter", "stills_checked_total", "Stills that were looked at, by verdict.", "verdict")

# The front ends'
COMMANDS = _metric(
    "histogram",
    "command_seconds",
    "Commands at front ends and the Housekeeper: ok, replayed, refused, retryable or failed.",
    "command",
    "outcome",
    buckets=QUICK,
)
CHANNELS = _metric("gauge", "live_channels", "Live channels (WebSockets), by role.", "role")

# Of all of them
LOOP_LAG = _metric("gauge", "loop_lag_seconds", "Longest delay of the event loop lately.", "process")


def count(metric: Metric, value: float = 1, **labels: str) -> None:
    """Add to a counter. 0 makes it known."""
    cluster.record(metric.kind, metric.name, metric.help, metric.labels, metric.buckets, value, labels)


observe = count
"""Enter a value into a histogram."""

_gauges: dict[tuple[Metric, tuple[tuple[str, str], ...]], float] = {}


def gauge(metric: Metric, value: float, **labels: str) -> None:
    """Set a figure; it is shown until it is set anew, as long as `report` runs."""
    _gauges[metric, tuple(labels.items())] = value
    count(metric, value, **labels)


def gauges(metric: Metric, label: str, values: Mapping[str, float]) -> None:
    """Set a figure for several values of its label."""
    for name, value in values.items():
        gauge(metric, value, **{label: name})


@dataclass(slots=True)
class Timed:
    """A command under way. `replayed`: it had been run before."""

    replayed: bool = False


@contextlib.contextmanager
def timed(command: str) -> Iterator[Timed]:
    """Enter how long a command takes, and what class of outcome it has."""
    began, one, outcome = time.perf_counter(), Timed(), "failed"
    try:
        yield one
        outcome = "replayed" if one.replayed else "ok"
    except Retryable:
        outcome = "retryable"
        raise
    except OrchestratorError:
        outcome = "refused"
        raise
    finally:
        observe(COMMANDS, time.perf_counter() - began, command=command, outcome=outcome)


class Lag:
    """How late a loop wakes: the longest of the last ticks, in seconds."""

    def __init__(self) -> None:
        self._last: list[float] = []

    async def tick(self) -> float:
        """Sleep for one tick."""
        loop = asyncio.get_running_loop()
        due = loop.time() + TICK_SECONDS
        await asyncio.sleep(TICK_SECONDS)
        self._last = [*self._last[1 - LAG_TICKS :], max(0.0, loop.time() - due)]
        return max(self._last)


async def report(process: str, *counters: Metric) -> None:
    """Show this process's loop lag, keep its gauges fresh, and have its counters begin at 0. Does not end."""
    for metric in counters:
        for value in metric.zero or ("",):
            count(metric, 0, **dict.fromkeys(metric.labels, value))
    lag = Lag()
    while True:
        gauge(LOOP_LAG, await lag.tick(), process=process)
        for (metric, labels), value in _gauges.items():
            count(metric, value, **dict(labels))


def note_entry(body: str) -> None:
    """Count what a durable entry tells of late timers and of time given back. `body` is its canonical JSON."""
    if '"late_by":' not in body and '"clock_credited"' not in body:
        return
    for event in json.loads(body)["events"]:
        if event["type"] == "clock_credited":
            count(CREDITED, event["ms"] / 1000, cause=event["cause"])
        elif "late_by" in event:
            observe(LATENESS, max(0, event["late_by"]) / 1000)
