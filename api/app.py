"""The application: routes, error answers, limits, and the client that they all call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware

from actors.board import Board
from actors.channels import Channels
from actors.clock import wall_ms
from api import errors, openapi
from api.headers import only_known_parameters
from api.keyring import Keyring
from api.limits import RequestLimits
from api.metrics import CountRequests, HttpMetrics
from api.rates import LargeBodies, Rates
from api.routes import (
    bulk,
    candidates,
    console,
    export,
    jobs,
    keys,
    live,
    livekit,
    operations,
    pages,
    proctoring,
    reports,
    sessions,
    webhooks,
)
from orchestrator import __version__
from orchestrator.errors import Retryable
from orchestrator.interview.view import iso
from orchestrator.jobs import DEFAULT_JOB
from orchestrator.settings import Settings
from orchestrator.webhooks import ENVIRONMENT, Endpoint, new_secret

log = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
ROUTES = (sessions, bulk, export, candidates, proctoring, reports, livekit, jobs, webhooks, keys, operations)
SENT_HEADERS = ["Idempotency-Key", "If-Match", "If-None-Match", "X-Request-Id"]
EXPOSED_HEADERS = ["ETag", "Idempotency-Replayed", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"]
NO_WEBHOOK = "INTERVIEW_WEBHOOK_URL is not set."


def create_app(settings: Settings, client: Any = None) -> FastAPI:
    """The front end. `client` is what tests put in the place of InterviewClient."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.client = client or await _connect(settings)
        app.state.channels = Channels(app.state.client)
        app.state.keyring = Keyring(app.state.client.store)
        reports = asyncio.create_task(app.state.metrics.report(app.state.channels))
        app.state.board = Board(app.state.client)
        try:
            await _ensure_default_job(app.state.client)
            await _ensure_webhook_of_the_settings(app.state.client.store, settings)
            yield
        finally:
            reports.cancel()
            app.state.board.close()
            await app.state.channels.close()
            await _close(app.state.client)

    app = FastAPI(
        title="Parallel Interview",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.draining = False
    app.state.rates = Rates(settings)
    app.state.large_bodies = LargeBodies()
    app.state.metrics = HttpMetrics()
    errors.install(app)
    if settings.cors_origin_list:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origin_list,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type", *SENT_HEADERS],
            expose_headers=EXPOSED_HEADERS,
            max_age=600,
        )
    app.add_middleware(RequestLimits, https=settings.public_url.startswith("https://"))
    app.add_middleware(CountRequests, figures=app.state.metrics)
    for module in ROUTES:
        app.include_router(module.router, dependencies=[Depends(only_known_parameters)])
    for module in (live, console, pages):
        app.include_router(module.router)
    openapi.install(app)
    return app


async def _connect(settings: Settings) -> Any:
    """Join Ray and the database; both may still be starting."""
    from actors.client import InterviewClient

    for attempt in range(60):
        try:
            return await InterviewClient.connect(settings)
        except (Retryable, ConnectionError, RuntimeError) as error:
            if attempt % 10 == 9:
                log.warning("still connecting", extra={"reason": repr(error)})
            await asyncio.sleep(0.5)
    return await InterviewClient.connect(settings)


async def _close(client: Any) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.close()
    except Exception as error:
        log.warning("not closed in order", extra={"error": type(error).__name__})


async def _ensure_webhook_of_the_settings(store: Any, settings: Settings) -> None:
    """The endpoint that the settings name is there, and one that they named once is not used."""
    url, secret = settings.webhook_url, settings.webhook_secret
    known = next((one for one in await store.endpoints() if one.id == ENVIRONMENT), None)
    if url is None:
        if known is not None and known.enabled:
            await store.change_endpoint(ENVIRONMENT, lambda one: one.disabled(NO_WEBHOOK))
        return
    given = secret.get_secret_value() if secret is not None else None
    if known is None:
        await store.add_endpoint(Endpoint(ENVIRONMENT, url, given or new_secret(), wall_ms()))
    elif known.url != url or known.disabled_because == NO_WEBHOOK or given not in (None, known.secret):
        fresh = replace(known, url=url, secret=given or known.secret, enabled=True, disabled_because=None)
        await store.change_endpoint(ENVIRONMENT, lambda _: fresh)


async def _ensure_default_job(client: Any) -> None:
    now = iso(wall_ms())
    await client.store.put_job({**DEFAULT_JOB, "created_at": now, "updated_at": now}, create=True)
