"""The faults: each picks a victim with the world's random generator and does it. KINDS names them all.

A fault returns once it is done; what follows later (a stopped process goes on) is a task of the world.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from tests.chaos import processes
from tests.chaos.load import Load
from tests.chaos.steps import Do, arm, disarm, taken
from tests.servers import Serve

__all__ = ["KINDS", "Kind", "NoVictim", "World", "arm", "taken"]

TAKEN_SECONDS = 15.0
DATABASE_STOP_SECONDS = 5.0


class NoVictim(Exception):
    """There is no process or session to do it to just now."""


@dataclass
class World:
    """What faults act on. `victim` is the session that the last fault was about, if it was about one."""

    service: Serve
    load: Load
    http: httpx.AsyncClient
    rng: random.Random
    faults_folder: Path
    victim: str | None = None
    stopped: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    def pick(self, pids: list[int]) -> int:
        if not pids:
            raise NoVictim
        return self.rng.choice(sorted(pids))

    async def live_actor(self) -> int:
        """The pid of an actor that holds a session of the load; that session is the victim."""
        live = [told.session_id for told in self.load.live]
        if not live:
            raise NoVictim
        self.victim = self.rng.choice(live)
        try:
            session = (await self.http.get(f"/session/{self.victim}", timeout=3)).json()["session"]
            return processes.interview_actors(self.service)[session["placement"]["actor"]]
        except (httpx.TransportError, ValueError, KeyError, TypeError):
            raise NoVictim from None

    def stop(self, pid: int, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        if processes.send(pid, signal.SIGSTOP):
            self.continue_later(pid, seconds)

    def continue_later(self, pid: int, seconds: float) -> None:
        async def wait_and_continue() -> None:
            try:
                await asyncio.sleep(seconds)
            finally:
                if processes.is_stopped(pid):
                    processes.send(pid, signal.SIGCONT)

        task = asyncio.create_task(wait_and_continue())
        self.stopped[pid] = task
        task.add_done_callback(lambda _: self.stopped.pop(pid, None))

    async def continue_all(self) -> None:
        """Let everything go on that is still stopped."""
        tasks = list(self.stopped.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Fault = Callable[[World], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A named fault, how often it is chosen, and the seconds that must lie between two of them."""

    do: Fault
    weight: float = 1.0
    apart_seconds: float = 0.0


async def kill_interview_actor(world: World) -> None:
    processes.send(await world.live_actor(), signal.SIGKILL)


async def stop_interview_actor(world: World) -> None:
    world.stop(await world.live_actor(), world.rng.uniform(6, 10))


async def kill_system_actor(class_name: str, world: World) -> None:
    processes.send(world.pick(processes.actors_of(world.service, class_name)), signal.SIGKILL)


async def stop_system_actor(class_name: str, world: World) -> None:
    world.stop(world.pick(processes.actors_of(world.service, class_name)), world.rng.uniform(6, 10))


async def kill_front_end(world: World) -> None:
    processes.send(world.pick(processes.front_ends(world.service)), signal.SIGKILL)


async def kill_database(world: World) -> None:
    processes.send(world.pick(processes.databases(world.service)), signal.SIGKILL)


async def stop_database(world: World) -> None:
    world.stop(world.pick(processes.databases(world.service)), DATABASE_STOP_SECONDS)


async def kill_ray(world: World) -> None:
    """All of the local Ray at once: what a machine that loses its power does to it."""
    pids = processes.local_ray(world.service)
    if not pids:
        raise NoVictim
    for pid in pids:
        processes.send(pid, signal.SIGKILL)


async def fail_at(step: str, do: Do, world: World) -> None:
    """Have the next process that gets there fail at a named step, and wait until one has."""
    seconds = world.rng.uniform(2, 5)
    arm(world.faults_folder, step, do, seconds)
    if step.startswith("activate.") and world.rng.random() < 0.5:
        with contextlib.suppress(NoVictim):  # then the next start takes it
            await kill_interview_actor(world)
    pid = await _until_taken(world, step)
    if do == "stop":
        world.continue_later(pid, world.rng.uniform(6, 10))


async def _until_taken(world: World, step: str) -> int:
    give_up = asyncio.get_running_loop().time() + TAKEN_SECONDS
    while True:
        pid = taken(world.faults_folder, step)
        if pid is not None:
            return pid
        if asyncio.get_running_loop().time() > give_up:
            disarm(world.faults_folder, step)
            raise NoVictim
        await asyncio.sleep(0.02)


AT_STEPS: dict[str, tuple[Do, ...]] = {
    "append.before": ("kill", "hang"),
    "append.after": ("kill", "stop", "hang", "lose"),
    "activate.before": ("kill", "stop", "hang"),
    "activate.after": ("kill", "stop", "hang"),
    "reply.before": ("kill", "stop", "hang", "lose"),
    "front_end.reply": ("kill", "hang", "lose"),
}
"""Not the release steps: nothing hands sessions over during a random run."""

KINDS: dict[str, Kind] = {
    "kill InterviewActor": Kind(kill_interview_actor, 4),
    "stop InterviewActor": Kind(stop_interview_actor, 3),
    "kill JournalActor": Kind(partial(kill_system_actor, "JournalActor"), 2),
    "stop JournalActor": Kind(partial(stop_system_actor, "JournalActor"), 0.5),
    "kill Registry": Kind(partial(kill_system_actor, "Registry"), 2),
    "kill Housekeeper": Kind(partial(kill_system_actor, "Housekeeper"), 1),
    "kill front end": Kind(kill_front_end, 1.5),
    "kill database": Kind(kill_database, 1.5),
    "stop database": Kind(stop_database, 1.5),
    "kill Ray": Kind(kill_ray, 0.3, apart_seconds=180),
    **{f"{do} at {step}": Kind(partial(fail_at, step, do), 0.5) for step, dos in AT_STEPS.items() for do in dos},
}
