"""What memory a process of ours may take."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path


def limit_memory(extra: int) -> None:
    """Have this process refuse itself more than this many bytes beyond what it has now: whatever takes more gets a
    MemoryError, and not the machine."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            limit = int(line.split()[1]) * 1024 + extra
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
