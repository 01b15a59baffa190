"""Let an idle worker of Ray sleep: it looks for signals once a second instead of a hundred times.

The main thread of a Ray worker runs an event loop of Boost.Asio whose only timer has Python's signal handlers called
every 10 ms. No setting of Ray changes that (2.60, `CoreWorker::RunTaskExecutionLoop`). A wake costs 30 to 60 µs on a
virtual machine, so this timer is two thirds of what an idle interview costs: 200 of them keep a core busy with nothing.

The loop waits in an epoll set for a timerfd. Here that timerfd is watched for one wake at a time (EPOLLONESHOT), and
again after SIGNALS_SECONDS. Calls do not come by it; they wake the loop at once. Where the main thread does not wait
for a timerfd in an epoll set (another system, a newer Asio), nothing is changed, and an interview costs what it did.
While the process's asyncio loop hangs, signals that Python handles are not noticed; Ray ends such a process by force.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import select
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

SIGNALS_SECONDS = 1.0
TRIES = 20
RETRY_SECONDS = 0.5

_MODIFY = 3  # EPOLL_CTL_MOD of <sys/epoll.h>
_libc = ctypes.CDLL(None, use_errno=True)


class _Event(ctypes.Structure):
    """`struct epoll_event`, which is packed on x86-64 alone."""

    _pack_ = 1 if os.uname().machine == "x86_64" else 8
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


@dataclass(frozen=True, slots=True)
class Timer:
    """A timerfd, and the epoll set that watches it under this key."""

    epoll: int
    fd: int
    key: int

    def wake_once(self) -> None:
        """Have the timer wake the set's thread once more, at once if it is due. Raises OSError."""
        self._watch(select.EPOLLIN | select.EPOLLONESHOT)

    def wake_always(self) -> None:
        """As Asio has it. Raises OSError."""
        self._watch(select.EPOLLIN | select.EPOLLERR)

    def _watch(self, events: int) -> None:
        if _libc.epoll_ctl(self.epoll, _MODIFY, self.fd, ctypes.byref(_Event(events, self.key))) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


async def sleep_well() -> None:
    """Slow this process's checks for signals, for as long as this runs."""
    timer = await _found()
    if timer is None:
        log.info("Ray goes on looking for signals a hundred times a second")
        return
    try:
        while True:
            timer.wake_once()
            await asyncio.sleep(SIGNALS_SECONDS)
    except OSError:
        log.exception("the timer cannot be told when to wake")
    finally:
        with contextlib.suppress(OSError):
            timer.wake_always()


async def _found() -> Timer | None:
    for _ in range(TRIES):
        await asyncio.sleep(RETRY_SECONDS)
        try:
            timer = main_timer()
        except (OSError, ValueError, LookupError):
            return None  # this kernel does not tell
        if timer is not None:
            return timer
    return None


def main_timer() -> Timer | None:
    """What the main thread waits for; None if it is busy, or waits for no timer. Raises OSError on other systems."""
    words = Path(f"/proc/self/task/{os.getpid()}/syscall").read_text().split()
    if len(words) < 2 or not words[1].startswith("0x"):
        return None
    epoll = int(words[1], 16)  # the first argument of the system call that it is in
    if epoll >= 2**31 or _kind(epoll) != "anon_inode:[eventpoll]":
        return None
    for line in Path(f"/proc/self/fdinfo/{epoll}").read_text().splitlines():
        words = line.split()
        if words[:1] == ["tfd:"] and _kind(int(words[1])) == "anon_inode:[timerfd]":
            return Timer(epoll, int(words[1]), int(words[words.index("data:") + 1], 16))
    return None


def _kind(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""
