"""Which node of the Ray cluster this machine (or this container) is, without joining the cluster."""

from __future__ import annotations

import contextlib
from pathlib import Path

from orchestrator.errors import NotFound

NODE_ID = b"--node_id="


def this_node(processes: Path = Path("/proc")) -> str:
    """The id of the node, from the command line of the raylet that runs here. Raises NotFound without exactly one."""
    found: set[str] = set()
    for file in processes.glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            program, *options = file.read_bytes().split(b"\0")
            if program.endswith(b"/raylet"):
                found |= {one.removeprefix(NODE_ID).decode() for one in options if one.startswith(NODE_ID)}
    if len(found) != 1:
        several = f"{len(found)} Ray nodes run" if found else "No Ray node runs"
        raise NotFound(f"{several} on this machine; give --node, as `parallel-interview status` shows it.")
    return found.pop()
