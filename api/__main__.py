"""One front end process: `python -m api`, on the socket that `serve` opened, or on port 8005 by itself."""

from __future__ import annotations

import os
import socket

import uvicorn

from api.app import create_app
from orchestrator import logs
from orchestrator.settings import get_settings


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
        timeout_graceful_shutdown=3,
        timeout_keep_alive=75,  # longer than the pauses of clients, which would else meet a closing connection
        proxy_headers=bool(settings.forwarded_allow_ips),
        forwarded_allow_ips=settings.forwarded_allow_ips or None,
    )
    uvicorn.Server(config).run([socket.socket(fileno=int(inherited))] if inherited else None)


if __name__ == "__main__":
    main()
