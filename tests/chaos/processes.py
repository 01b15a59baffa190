"""Finding the processes of a service under test, through /proc alone: it must work while Ray or the database is away.

Ray sets the title of a worker to `ray::<class>`, with `.<method>` while that runs. A worker that is only starting
still has Python's command line, so it is not found. Which actor a process is, is in the first lines of its log: Ray
writes `:actor_name:` there, and our actors' repr is their name.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.servers import Serve, command_of, descendants

HEAD_BYTES = 4096
ACTOR_NAME = b":actor_name:"


def pids_of(service: Serve, matches: Callable[[str], bool]) -> list[int]:
    """The processes below the service whose command line matches."""
    assert service.process is not None
    return [pid for pid in descendants(service.process.pid) if matches(command_of(pid))]


def actors_of(service: Serve, class_name: str) -> list[int]:
    """Processes that are actors of one class."""
    return pids_of(service, lambda command: command.split(".")[0] == f"ray::{class_name}")


def interview_actors(service: Serve) -> dict[str, int]:
    """Names and pids of the InterviewActors, live and warm."""
    named = ((actor_name(pid), pid) for pid in actors_of(service, "InterviewActor"))
    return {name: pid for name, pid in named if name is not None}


def actor_name(pid: int) -> str | None:
    """The name of the actor in a worker process; None if it is not known yet."""
    try:
        with open(os.readlink(f"/proc/{pid}/fd/1"), "rb") as log:
            lines = log.read(HEAD_BYTES).splitlines()
    except OSError:
        return None
    names = [line.removeprefix(ACTOR_NAME).decode(errors="replace") for line in lines if line.startswith(ACTOR_NAME)]
    return next((name for name in reversed(names) if "-" in name), None)


def front_ends(service: Serve) -> list[int]:
    return pids_of(service, lambda command: command.endswith("-m api"))


def databases(service: Serve) -> list[int]:
    return pids_of(service, lambda command: "nx-27017 --data-dir" in command)


def local_ray(service: Serve) -> list[int]:
    """Every process below `ray start`, workers included."""
    heads = pids_of(service, lambda command: "/ray start --head" in command)
    return [pid for head in heads for pid in descendants(head)]


def send(pid: int, signum: signal.Signals) -> bool:
    """Signal a process; False if it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)
        return True
    return False


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"
    except OSError:
        return False
