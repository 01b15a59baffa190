"""A front end in a process of its own, as `serve` runs one, over sessions in memory.

`python -m tests.attacks.front_end FD`, on a socket that listens.

Ray and a database would say nothing more about what happens to bytes that come over a socket, and take longer to start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from pydantic import SecretStr

from api import limits, patience
from api.app import create_app
from api.patience import PatientProtocol
from api.websockets import OPTIONS, LiveProtocol
from orchestrator import logs
from orchestrator.settings import Settings
from orchestrator.storage.embedded import die_with_parent
from tests.attacks.world import KEY
from tests.unit.api_world import MemoryClient

HEAD_SECONDS, SLOW_SECONDS, LEFTOVER_SECONDS = "TEST_HEAD_SECONDS", "TEST_SLOW_SECONDS", "TEST_LEFTOVER_SECONDS"
LONGEST_SECONDS = "TEST_LONGEST_SECONDS"
"""Variables that shorten the front end's patience."""


@contextlib.contextmanager
def front_end(log: Path, **environment: str) -> Iterator[str]:
    """A running one: its URL. It has the staff key KEY."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    os.set_inheritable(listener.fileno(), True)
    command = [sys.executable, "-m", "tests.attacks.front_end", str(listener.fileno())]
    with log.open("ab") as said:
        process = subprocess.Popen(
            command,
            pass_fds=(listener.fileno(),),
            stdout=said,
            stderr=said,
            preexec_fn=die_with_parent,
            env=os.environ | environment,
        )
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    try:
        _wait(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/healthz", timeout=5).is_success:
                return
        time.sleep(0.05)
    raise AssertionError("the front end did not come up")


def main() -> None:
    logs.configure()
    patience.HEAD_SECONDS = float(os.environ.get(HEAD_SECONDS, patience.HEAD_SECONDS))
    limits.SLOW_SECONDS = float(os.environ.get(SLOW_SECONDS, limits.SLOW_SECONDS))
    limits.LONGEST_SECONDS = float(os.environ.get(LONGEST_SECONDS, limits.LONGEST_SECONDS))
    patience.LEFTOVER_SECONDS = float(os.environ.get(LEFTOVER_SECONDS, patience.LEFTOVER_SECONDS))
    settings = Settings(_env_file=None, mongodb_url=None)  # pyright: ignore[reportCallIssue]
    settings = settings.model_copy(update={"api_key": SecretStr(KEY)})
    how: dict[str, Any] = {
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "http": PatientProtocol,
        "ws": LiveProtocol,
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": 2,
        "proxy_headers": False,
        **OPTIONS,
    }
    asyncio.run(_serve(settings, how, socket.socket(fileno=int(sys.argv[1]))))


async def _serve(settings: Settings, how: dict[str, Any], listener: socket.socket) -> None:
    config = uvicorn.Config(create_app(settings, MemoryClient(settings=settings)), **how)
    await uvicorn.Server(config).serve([listener])


if __name__ == "__main__":
    main()
