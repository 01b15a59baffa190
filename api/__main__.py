"""One front end process: `python -m api`, on the socket that `serve` opened, or on port 8005 by itself."""

from __future__ import annotations

import gc
import os
import socket
from types import FrameType
from typing import Any

import uvicorn

from api.app import create_app
from api.patience import PatientProtocol
from api.websockets import OPTIONS, LiveProtocol
from orchestrator import logs
from orchestrator.settings import get_settings


class FrontEnd(uvicorn.Server):
    """A server that says so on /readyz once it has been asked to end; calls under way are finished."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is there now stays: without it a full collection takes milliseconds, and not tenths of a second.
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        app: Any = self.config.app
        app.state.draining = True
        super().handle_exit(sig, frame)


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
    FrontEnd(config).run([socket.socket(fileno=int(inherited))] if inherited else None)


if __name__ == "__main__":
    main()
