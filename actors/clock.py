"""The wall clock, in the one unit that the system counts in."""

from __future__ import annotations

import time


def wall_ms() -> int:
    """Now, in ms since the Unix epoch, UTC."""
    return time.time_ns() // 1_000_000
