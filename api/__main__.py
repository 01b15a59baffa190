"""One front end process: `python -m api`, on the socket that `serve` opened, or on port 8005 by itself."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import time
from types import FrameType
from typing import Any

import uvicorn

from api.app import create_app
from api.patience import PatientProtocol
from api.websockets import OPTIONS, LiveProtocol
from orchestrator import logs
from orchestrator.settings import get_settings


class FrontEnd(uvicorn.Server):
    """A server that says so on /readyz once it has been asked to end; calls under way are finished.

    `stop_delay`: seconds for which it takes calls after it was asked, so that load balancers see it go.
    """

    def __init__(self, config: uvicorn.Config, stop_delay: float = 0.0) -> None:
        super().__init__(config)
        self._stop_delay = stop_delay
        self._leave_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is there now stays: without it a full collection takes milliseconds, and not tenths of a second.
        gc.collect()
        gc.freeze()
        _tell_that_it_is_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        app: Any = self.config.app
        app.state.draining = True
        if self._leave_at is None and self._stop_delay > 0:
            self._leave_at = time.monotonic() + self._stop_delay
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if self._leave_at is not None and time.monotonic() >= self._leave_at:
            self.should_exit = True
        return await super().on_tick(counter)


def _tell_that_it_is_ready() -> None:
    """To `serve`, if it waits for it with the end of the one whose place this one takes."""
    pipe = os.environ.pop("INTERVIEW_READY_FD", None)
    if pipe is not None:
        with contextlib.suppress(OSError):
            os.write(int(pipe), b"1")
            os.close(int(pipe))


def main() -> None:
    settings = get_settings()
    logs.configure()
    inherited = os.environ.get("INTERVIEW_SOCKET_FD")
    config = uvicorn.Config(
        create_app(settings),
        host="127.0.0.1",
        port=8005,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=4,  # a command has an answer within that time
        http=PatientProtocol,
        ws=LiveProtocol,
        **OPTIONS,
        timeout_keep_alive=75,  # longer than the pauses of clients, which would else meet a closing connection
        proxy_headers=bool(settings.forwarded_allow_ips),
        forwarded_allow_ips=settings.forwarded_allow_ips or None,
    )
    FrontEnd(config, settings.stop_delay_seconds).run([socket.socket(fileno=int(inherited))] if inherited else None)


if __name__ == "__main__":
    main()
