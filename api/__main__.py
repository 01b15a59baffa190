"""One front end process: `python -m api`, on the socket that `serve` opened, or on port 8005 by itself."""

from __future__ import annotations

import os

import uvicorn

from api.app import create_app
from orchestrator.settings import get_settings


def main() -> None:
    settings = get_settings()
    inherited = os.environ.get("INTERVIEW_SOCKET_FD")
    uvicorn.run(
        create_app(settings),
        fd=int(inherited) if inherited else None,
        host="127.0.0.1",
        port=8005,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=3,
        proxy_headers=bool(settings.forwarded_allow_ips),
        forwarded_allow_ips=settings.forwarded_allow_ips or None,
    )


if __name__ == "__main__":
    main()
