"""A front end that joins Ray at one of several nodes of this machine, as if that were a machine of its own.

    python -m tests.chaos.front_end NODE_ID

Ray itself attaches a driver to the head's node, if there are several on its machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from orchestrator.storage.embedded import die_with_parent
from tests.chaos.nodes import Node
from tests.servers import ROOT

READY_SECONDS = 90.0


@contextlib.contextmanager
def front_end_at(node: Node, folder: Path, **settings: str) -> Iterator[str]:
    """One that is ready: the address of its calls."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "front_end.log"
    with socket.create_server(("127.0.0.1", 0)) as server, open(log, "wb") as output:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("INTERVIEW_", "RAY_"))}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.front_end", node.node_id],
            cwd=ROOT,
            env=environment | node.environment | settings | {"INTERVIEW_SOCKET_FD": str(server.fileno())},
            pass_fds=[server.fileno()],
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,
        )
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        try:
            _wait_until_ready(process, url, log)
            yield f"{url}/api/parallel_interview"
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    give_up = time.monotonic() + READY_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=5).is_success:
                return
        time.sleep(0.2)
    pytest.fail(f"a front end was not ready:\n{log.read_text(errors='replace')[-4000:]}")


def main() -> None:
    from ray._private import services

    from api.__main__ import main as run

    services.find_node_ids = lambda: {sys.argv[1]}
    run()


if __name__ == "__main__":
    main()
